"""What an explorer is given in its tests, and the kind of what it found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from activations import Domain
from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Body, Programs
from xen_sim.explore.search import Effort
from xen_sim.explore.verdict import FOUND, Verdict

FEW = Effort(runs=300, seconds=None)


def programs(body: Body, **how: Any) -> Programs:
    return Programs(Program("it", "it"), body, **how)


def halves(**mains: Callable[[Domain], Awaitable[object]]) -> Programs:
    def body(machine: ExploredMachine) -> object:
        for name, main in mains.items():
            machine.boot(name, main)
        return machine.run()

    return programs(body)


def kind_of(verdict: Verdict) -> str:
    assert verdict.kind == FOUND, verdict
    return verdict.found[0].finding.kind


async def nothing(xen: Domain) -> None:
    pass
