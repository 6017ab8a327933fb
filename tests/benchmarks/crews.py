"""A search by several processes against one: how many runs it makes a second.

Where other work shares the processors, the wall says more of that than of the search. So a figure
is of the runs for each second that the search needs where it has a processor for each job: the time
of the process that takes the most, be it a worker or the one that gives out the shares, or that of
all together on so many processors, if that is more. The wall's stands in its name, and how often a
worker let go of its processor by itself, as one does that waits for more: one that others keep from
it does not.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from measure import Figure
from support.places import EXAMPLES

from activations.scenario import load
from xen_sim.explore.crew import NEAR
from xen_sim.explore.engine import Engine
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.programs import of_scenario
from xen_sim.explore.search import Effort, explore

ROUNDS = 3
CREWS = {"one process": 1, "one again": 1, "two": 2}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Children:
    """This process's children, as they were last seen."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Of a processor's time."""
    waits: dict[str, int] = field(default_factory=dict)
    """How often each let go of its processor by itself."""

    def look(self, *_: object) -> None:
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                self.seconds[child] = (int(fields[11]) + int(fields[12])) / TICKS
                told = Path(f"/proc/{child}/status").read_text()
                self.waits[child] = int(told.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def rates(engine: Engine, runs: int, jobs: int) -> tuple[float, float, int]:
    """Runs a second where each job has a processor, and of the wall's; how often workers waited."""
    children = Children()
    effort = Effort(runs=runs, seconds=None, strategy="delays", jobs=jobs)
    wall, mine = time.perf_counter(), time.process_time()
    verdict = explore(engine, effort, live=children.look)
    wall, mine = time.perf_counter() - wall, time.process_time() - mine
    each = [mine, *children.seconds.values()]
    made = verdict.figures.runs
    return made / max(*each, sum(each) / jobs, 0.0), made / wall, sum(children.waits.values())


def crews(engine: Engine, runs: int) -> list[Figure]:
    rounds = [
        {said: rates(engine, runs, jobs) for said, jobs in CREWS.items()} for _ in range(ROUNDS)
    ]
    figures = []
    for said, jobs in CREWS.items():
        busiest, wall = (median(each[said][part] for each in rounds) for part in (0, 1))
        times, by_wall = (
            median(each[said][part] / each["one process"][part] for each in rounds)
            for part in (0, 1)
        )
        name = f"{said}: {wall:,.0f} a second of the wall, {by_wall:.2f} times"
        if jobs > 1:
            waited = median(each[said][2] for each in rounds)
            name += f"; workers waited {waited:.0f} times for {runs // NEAR} shares"
        figures.append(Figure(name, busiest, "runs a second", times))
    return figures


BENCHMARKS = {
    "Search by several processes, two event loops": lambda: crews(
        of_scenario(load(str(EXAMPLES / "pingpong.py"))), 300
    ),
    "Search by several processes, a lower half": lambda: crews(lower_half(ports=2), 1500),
}
