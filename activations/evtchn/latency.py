"""How long things took: percentiles, and a histogram whose bars stand for 1, 2, 5, 10, 20..."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

SHOWN = (50.0, 90.0, 99.0, 99.9)


class Latencies:
    """Lengths of time in nanoseconds, each kept: eight bytes a piece."""

    def __init__(self, lengths: Iterable[int] = ()) -> None:
        self._lengths = array("q", lengths)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, ns: int) -> None:
        self._lengths.append(ns)

    def as_data(self) -> dict[str, Any]:
        """For JSON, in nanoseconds: `min`, `mean`, `max`, `p50` to `p99.9`, and `histogram`, pairs
        of a bar's upper bound and how many are in it. Empty where there are none."""
        if not self._lengths:
            return {}
        ordered = sorted(self._lengths)
        return {
            "min": ordered[0],
            "mean": round(sum(ordered) / len(ordered)),
            "max": ordered[-1],
            **{f"p{share:g}": percentile(ordered, share) for share in SHOWN},
            "histogram": histogram(ordered),
        }


def percentile(ordered: list[int], share: float) -> int:
    """The least length that at least `share` percent of these do not exceed (nearest rank)."""
    rank = -(-len(ordered) * round(share * 10) // 1000)
    return ordered[max(rank, 1) - 1]


def histogram(ordered: list[int]) -> list[list[int]]:
    """How many lengths are in each step of 1, 2, 5, 10, 20..., from the first step that has any to
    the last: pairs of the step's upper bound, which is part of it, and how many."""
    found: list[list[int]] = []
    at = 0
    for bound in _bounds():
        up_to = bisect_left(ordered, bound + 1)
        if found or up_to > at:
            found.append([bound, up_to - at])
        at = up_to
        if at == len(ordered):
            return found
    raise AssertionError("there is always a longer step")


def _bounds() -> Iterator[int]:
    for power in count():
        for step in (1, 2, 5):
            yield step * 10**power
