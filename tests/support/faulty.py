"""What goes wrong in an explored machine, for tests: who rests on its never happening is found."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from activations import Domain
from xen_sim.explore.engine import Program
from xen_sim.explore.finding import Finding
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.report import FAULT
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.token import parse as parse_token
from xen_sim.explore.verdict import FOUND

Main = Callable[[Domain], Awaitable[Any]]


def effort(faults: str, **how: Any) -> Effort:
    """A short search with these faults, in runs."""
    return Effort(**{"runs": 300, "seconds": None, "strategy": "swarm", "faults": faults, **how})


def two(guest: Main, dom0: Main, *, restart: bool | None = None) -> Programs:
    """A guest and dom0; `restart` says whether dom0's program may die."""

    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", guest)
        machine.boot("dom0", dom0, restart=restart)
        return machine.run()

    return Programs(Program("two", "two"), body)


def assert_found(weak: Programs, fault: str) -> None:
    """That this fault breaks it: it is shrunk to that one, and its token breaks it again."""
    verdict = explore(weak, effort(fault))
    assert verdict.kind == FOUND, verdict
    found = verdict.found[0]
    befell = [moment.what for moment in found.moments if moment.mark == FAULT]
    assert len(found.course) == len(befell) == 1, "shrunk to the one fault"
    assert befell[0].endswith(fault.partition(":")[2])
    again = weak.faulty(fault).tell(parse_token(found.token).tape()).run.finding
    assert _unnumbered(again) == _unnumbered(found.finding)


def _unnumbered(finding: Finding | None) -> str:
    """What it says, but for the numbers of tasks without a name: asyncio counts on from run to
    run."""
    return re.sub(r"'Task-\d+'", "a task", str(finding))
