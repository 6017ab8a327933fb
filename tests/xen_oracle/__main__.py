"""Compare with Xen's own C, as long as you like:

    PYTHONPATH=tests python -m xen_oracle --steps 100_000_000 --jobs 2

Exits 0 where nothing differs, 1 where something does, which is then shrunk and printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from support.places import KEPT

from activations.errors import BackendError
from xen_lab import packages

from . import build
from .pieces import in_pieces, number
from .search import SIMULATORS, Search

CACHE = KEPT / "xen-oracle"
"""Where the tests keep the library too."""
PIECE = 100_000
"""Steps that a process does before it says how it went."""


def main() -> int:
    asked = _arguments()
    search = Search(_library(), asked.against, asked.shrinking, min(asked.steps, PIECE))
    return in_pieces(search, asked.seed, -(-asked.steps // PIECE), asked.jobs, "steps")


def _library() -> Path:
    def fetch(folder: Path) -> Path:
        files = packages.fetch_source("xen", folder, folder / "apt")
        return next(file for file in files if ".orig.tar." in file.name)

    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        return build.library(CACHE, fetch)
    except BackendError as error:
        sys.exit(f"Xen's sources: {error}")
    except FileNotFoundError as missing:
        sys.exit(f"Xen's sources are compiled here: {missing.strerror}: {missing.filename}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="xen_oracle", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=number, default=1_000_000, help="how many (1_000_000)")
    parser.add_argument("--seed", type=number, default=1, help="which programs (1)")
    parser.add_argument("--jobs", type=number, default=1, help="processes (1)")
    parser.add_argument(
        "--against",
        default="simulator",
        type=_world,
        metavar="WORLD",
        help="simulator; explored: the same, stepped; xen: a second copy of Xen's C; or the "
        "path of another library",
    )
    parser.add_argument(
        "--no-shrinking",
        dest="shrinking",
        action="store_false",
        help="print what is found as it is",
    )
    return parser.parse_args()


def _world(text: str) -> str:
    if text not in (*SIMULATORS, "xen") and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no simulator, not xen, and no such library")
    return str(Path(text).resolve()) if Path(text).is_file() else text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
