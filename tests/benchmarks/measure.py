"""What things cost, measured so that another run on another day says the same.

These machines are noisy and shared. So time is the processor's, of this process; every contender
is run in turn, twice a round; a figure is the median of its rounds, and a ratio the median of the
ratios of each round. Beside it stands its control: the second run of each round against the first,
which would be 1.00 on a quiet machine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from checkout import Checkout

clock = time.process_time
"""Seconds of the processor's time: what every benchmark goes by."""

Ours = Callable[[Checkout], float]
"""A benchmark of this package: seconds of one run, with the package as it is in a checkout."""

Others = Callable[[], float]
"""A benchmark of something else."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender's result: `value` in `unit`, and how often the first contender's that is."""

    name: str
    value: float
    unit: str
    ratio: float
    control: float | None = None
    """The same thing against itself."""
    against: float | None = None
    """How often that of the baseline it is."""


@dataclass(frozen=True)
class Table:
    """Contenders, and what they are measured in. `per` operations make up one run; `unit` is `µs`,
    of which a figure is so many for one operation. Ratios are to the first of all."""

    per: int
    unit: str
    ours: Mapping[str, Ours]
    others: Mapping[str, Others] = field(default_factory=dict)
    rounds: int = 15

    def measure(
        self, builds: Mapping[str, Checkout], baselines: Mapping[str, Checkout]
    ) -> list[Figure]:
        """Every contender: ours in each build (by what is said of it behind the contender's name),
        and in the same build of the baseline, where there is one."""
        runs: dict[str, Others] = dict(self.others)
        before: dict[str, Others] = {}
        for name, ours in self.ours.items():
            for build, tree in builds.items():
                runs[name + build] = partial(tree.within, ours)
                old = baselines.get(build)
                if old is not None and _works(run := partial(old.within, ours)):
                    before[name + build] = run
        times = _rounds(runs, before, self.rounds)
        return [self._figure(name, times) for name in runs]

    def _figure(self, name: str, times: Times) -> Figure:
        mine, again, before = times[name]
        first = times[next(iter(times))][0]
        return Figure(
            name,
            median(mine + again) / self.per * 1e6,
            self.unit,
            _ratio(mine, first),
            _ratio(again, mine),
            _ratio(mine, before) if before else None,
        )


Times = Mapping[str, tuple[list[float], list[float], list[float]]]
"""By contender, a round each: its first run, its second, and the baseline's."""


def _rounds(runs: Mapping[str, Others], before: Mapping[str, Others], rounds: int) -> Times:
    times: Times = {name: ([], [], []) for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            contenders = [run, *([before[name]] if name in before else []), run]
            taken = [_run(each) for each in contenders]
            if number:  # the first round warms up
                mine, again, theirs = times[name]
                mine.append(taken[0])
                again.append(taken[-1])
                theirs += taken[1:-1]
    return times


def _run(run: Others) -> float:
    gc.collect()
    return run()


def _works(run: Others) -> bool:
    """Whether an older checkout can do this at all."""
    try:
        run()
    except Exception:
        return False
    return True


def _ratio(times: list[float], base: list[float]) -> float:
    return median(mine / other for mine, other in zip(times, base, strict=True))
