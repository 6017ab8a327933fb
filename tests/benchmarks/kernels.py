"""A kernel's C: how long a search takes, a planted fault with its compiling, and a schedule."""

from __future__ import annotations

import os
import resource
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from measure import Figure
from support.lower_halves import FAULTS, of

from xen_kernel import Limits, Scenario, decide
from xen_kernel.build import program
from xen_kernel.engine import Program, Result

SEARCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "one port, two events": ("solo5", {}),
    "two ports, an event each": ("solo5", {"ports": 2, "sends": 1, "spread": True}),
    "FIFO, one port, two events": ("linux_fifo", {}),
    "two ports, two events each": ("solo5", {"ports": 2, "spread": True}),
    "two ports, two events each, a timer": ("solo5", {"ports": 2, "spread": True, "timer": True}),
}
SCHEDULES = 2.0
"""Seconds for which schedules are taken one by one."""


def asked(scenario: Scenario, seconds: float = 600.0, **how: Any) -> Result:
    return Program(program(scenario), scenario).search(Limits(seconds=seconds), **how)[0]


def searches() -> list[Figure]:
    """Of the engine's processor time."""
    results = {said: asked(of(name, **options)) for said, (name, options) in SEARCHES.items()}
    first = next(iter(results.values())).states
    return [
        Figure(f"{said}: {result.states:,} states", result.seconds, "s", result.states / first)
        for said, result in results.items()
    ]


def spent() -> float:
    """Seconds of processor time, with those of compilers and engines."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def faults() -> list[Figure]:
    """From the file to the schedule: the engine is compiled by then, the kernel is not."""
    taken: dict[str, float] = {}
    with TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        decide(of("zephyr", sends=1))
        for (name, fault), options in FAULTS.items():
            began = spent()
            assert decide(of(name, fault, **options)).found
            taken[f"{name} {fault}"] = spent() - began
    slowest = max(taken, key=lambda name: taken[name])
    middle = median(taken.values())
    return [
        Figure(f"the median of {len(taken)}", middle, "s", 1.0),
        Figure(f"the slowest, {slowest}", taken[slowest], "s", taken[slowest] / middle),
    ]


def schedules() -> list[Figure]:
    """Every schedule of two events on one port, as far as the time goes."""
    results = {name: asked(of(name), SCHEDULES, every=True) for name in ("solo5", "linux_2l")}
    each = {name: 1e6 * result.seconds / result.runs for name, result in results.items()}
    return [
        Figure(f"{name}: {results[name].runs / results[name].seconds:,.0f} a second", *figure)
        for name, figure in {n: (e, "µs", e / each["solo5"]) for n, e in each.items()}.items()
    ]


def crew(jobs: int) -> tuple[float, float]:
    """Seconds of all processes of a search, and of the one that took the most."""
    scenario = of("solo5", ports=2, spread=True, sends=3)
    program(scenario)
    began = spent()
    busiest = asked(scenario, jobs=jobs).seconds
    return spent() - began, busiest


def together() -> list[Figure]:
    """One search by several processes, in turn, three times; "one again" is the control."""
    crews = {"one process": 1, "one again": 1, "two": 2, "four": 4}
    rounds = [{said: crew(jobs) for said, jobs in crews.items()} for _ in range(3)]
    figures = []
    for said in crews:
        all_of, busiest = (median(each[said][part] for each in rounds) for part in (0, 1))
        ratio = median(each[said][0] / each["one process"][0] for each in rounds)
        figures.append(Figure(f"{said}: the busiest {busiest:.2f}", all_of, "s", ratio))
    return figures


BENCHMARKS = {
    "Search of a kernel's C": searches,
    "Kernel by several processes": together,
    "Fault in a kernel's C, found": faults,
    "Schedule of a kernel's C": schedules,
}
