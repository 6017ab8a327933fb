"""Compare with Xen's own C, as long as you like:

    PYTHONPATH=tests python -m xen_oracle --steps 100_000_000 --jobs 2

Exits 0 where nothing differs, 1 where something does, which is then shrunk and printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Set
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from activations.errors import BackendError
from xen_lab import packages

from . import build, compare, random_programs
from .compare import Difference, Make
from .program import Kind
from .xen import Library, Xen, copied

CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache" / "d" / "xen-oracle"
"""Where the tests keep the library too."""


def main() -> int:
    asked = _arguments()
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        library = build.library(CACHE, _fetch)
    except BackendError as error:
        sys.exit(f"Xen's sources: {error}")
    begun = time.monotonic()
    each = -(-asked.steps // asked.jobs)
    one = partial(_compare, library, asked.against, each, asked.shrinking)
    seeds = range(asked.seed, asked.seed + asked.jobs)
    if asked.jobs == 1:
        results = [one(asked.seed)]
    else:
        with get_context("spawn").Pool(asked.jobs) as pool:
            results = pool.map(one, seeds)
    steps = sum(done for done, _ in results)
    seconds = time.monotonic() - begun
    print(f"{steps:,} steps compared in {seconds:.1f} s, {steps / seconds:,.0f} a second")
    found = [difference for _, difference in results if difference]
    print("\n\n".join(found) or "nothing differs")
    return 1 if found else 0


def search(
    library: Library, make: Make, steps: int, seed: int, without: Set[Kind] = frozenset()
) -> tuple[int, Difference | None]:
    """Random programs until so many steps were compared, or one differs: how many were, and what
    differs. `without` names kinds of steps that they are not to have."""
    done = 0
    for program in random_programs.programs(seed, without):
        if done >= steps:
            break
        done += len(program.steps)
        if found := compare.run(library, make, program):
            return done, found
    return done, None


def _compare(
    library: Path, against: str, steps: int, shrinking: bool, seed: int
) -> tuple[int, str]:
    """`search`, in a process of its own."""
    with TemporaryDirectory() as folder:
        witness = copied(library, Path(folder))
        make, without = _world(against, library)
        done, found = search(witness, make, steps, seed, without)
        if found and shrinking:
            found = compare.shrunk(witness, make, found)
        return done, str(found or "")


def _world(against: str, library: Path) -> tuple[Make, frozenset[Kind]]:
    """What makes the World, and what that has not."""
    return partial(Xen, Library(library if against == "xen" else Path(against))), frozenset()


def _fetch(folder: Path) -> Path:
    files = packages.fetch_source("xen", folder, folder / "apt")
    return next(file for file in files if ".orig.tar." in file.name)


def _number(text: str) -> int:
    return int(float(text.replace("_", "")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="xen_oracle", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=_number, default=1_000_000, help="how many (1_000_000)")
    parser.add_argument("--seed", type=_number, default=1, help="which programs (1)")
    parser.add_argument("--jobs", type=_number, default=1, help="processes (1)")
    parser.add_argument(
        "--against",
        default="xen",
        metavar="WORLD",
        help="xen: a second copy of Xen's C, or the path of another library (xen)",
    )
    parser.add_argument(
        "--no-shrinking",
        dest="shrinking",
        action="store_false",
        help="print what is found as it is",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
