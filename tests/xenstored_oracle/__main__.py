"""Compare with Xen's own xenstored, as long as you like:

    PYTHONPATH=tests python -m xenstored_oracle --requests 10_000_000 --jobs 2

Exits 0 where nothing differs, 1 where something does, which is then shrunk and printed.
"""

from __future__ import annotations

import argparse
import sys

import pytest
from xen_oracle.pieces import in_pieces, number

from . import build
from .search import Search

PIECE = 100_000
"""Requests that a process does before it says how it went."""


def main() -> int:
    asked = _arguments()
    try:
        library = build.library()
    except pytest.skip.Exception as missing:
        sys.exit(str(missing))
    search = Search(library, min(asked.requests, PIECE), asked.shrinking)
    return in_pieces(search, asked.seed, -(-asked.requests // PIECE), asked.jobs, "requests")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="xenstored_oracle", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--requests", type=number, default=1_000_000, help="how many (1_000_000)")
    parser.add_argument("--seed", type=number, default=1, help="which programs (1)")
    parser.add_argument("--jobs", type=number, default=1, help="processes (1)")
    parser.add_argument(
        "--no-shrinking",
        dest="shrinking",
        action="store_false",
        help="print what is found as it is",
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
