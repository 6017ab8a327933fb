"""A long search in pieces, over processes, and what it says meanwhile."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

Search = Callable[[int], tuple[int, str]]
"""A piece of it, of this number: how much was compared, and what differs, or nothing."""


def in_pieces(search: Search, first: int, many: int, jobs: int, what: str) -> int:
    """Do the pieces, up to the first that differs, and print how it went. Gives the exit status: 0
    where nothing differs."""
    begun = time.monotonic()
    compared, found = 0, ""
    for done, found in _results(search, range(first, first + many), jobs):
        compared += done
        seconds = time.monotonic() - begun
        said = (
            f"{compared:,} {what} compared in {seconds:.1f} s, {compared / seconds:,.0f} a second"
        )
        if sys.stderr.isatty():
            print(said, end="\r", file=sys.stderr, flush=True)
        if found:
            break
    print(said)
    print(found or "nothing differs")
    return 1 if found else 0


def _results(search: Search, pieces: range, jobs: int) -> Iterator[tuple[int, str]]:
    """How each piece went, in order. One process is this one: it dies with what it compares."""
    if jobs == 1:
        yield from map(search, pieces)
        return
    spawn = get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield from pool.map(search, pieces)
    finally:
        pool.shutdown(cancel_futures=True)


def number(text: str) -> int:
    """A positive number: 1_000_000, or 1e6."""
    if (value := int(float(text.replace("_", "")))) < 1:
        raise ValueError
    return value
