"""Pairs measured in one run: these machines are noisy, and only ratios keep.

Each contender is a function that gives seconds; a round calls every one of them once, in turn, so
that whatever slows the machine slows them all. A figure is the median of its rounds, and a ratio
the median of the ratios of each round.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Contender = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender's result: `value` in `unit`, and how often the first contender's that is."""

    name: str
    value: float
    unit: str
    ratio: float


def compare(
    contenders: dict[str, Contender], *, per: int, unit: str, rounds: int = 7
) -> list[Figure]:
    """Measure contenders against the first of them. `per` operations make up one run; `unit` is
    `µs`, of which a figure is so many for one operation."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            gc.collect()
            seconds = run()
            if number:  # the first round warms up
                taken[name].append(seconds)
    first = next(iter(taken.values()))
    return [
        Figure(
            name,
            median(times) / per * 1e6,
            unit,
            median(mine / base for mine, base in zip(times, first, strict=True)),
        )
        for name, times in taken.items()
    ]
