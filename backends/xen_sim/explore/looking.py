"""Events and states of a machine's ports, seen from outside between two steps.

Whatever a guest's kernel and whatever the ABI: what differs from the look before was done by the
step in between. A look reads memory without a step, so an explored run goes as it would without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xen_sim.explore.report import DEMUX, NOTIFY, WAKE, Pairs

if TYPE_CHECKING:
    from xen_sim.machine import Machine


class Looking:
    """Looks at all ports of all domains."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._states: dict[str, str] = {}
        self._woken: dict[str, int] = {}

    def __call__(self) -> tuple[Pairs, Pairs]:
        """A moment's `events` and `changes`: what has become different since the last look."""
        scheduler = self._machine.xen.scheduler
        running, scheduler.current = scheduler.current, None
        try:
            states = dict(self._ports())
            woken = dict(self._waits())
        finally:
            scheduler.current = running
        events = [*self._moved(states), *self._woke(woken)]
        gone = {port: "closed" for port in self._states if port not in states}
        changes = [
            (port, state)
            for port, state in {**states, **gone}.items()
            if self._states.get(port) != state
        ]
        self._states, self._woken = states, woken
        return tuple(events), tuple(changes)

    def _moved(self, states: dict[str, str]) -> Iterator[tuple[str, str]]:
        for port, state in states.items():
            before, now = "pending" in self._states.get(port, ""), "pending" in state
            if before != now:
                yield (NOTIFY if now else DEMUX), port

    def _woke(self, woken: dict[str, int]) -> Iterator[tuple[str, str]]:
        for port, times in woken.items():
            if times > self._woken.get(port, 0):
                yield WAKE, port

    def _ports(self) -> Iterator[tuple[str, str]]:
        for domain in self._machine.xen.domains.values():
            channels = domain.event_channels
            for port in channels.open_ports():
                parts = []
                if channels.ops.is_pending(port):
                    parts.append("pending")
                if channels.ops.is_masked(port):
                    parts.append("masked")
                yield f"{domain.name} port {port}", ", ".join(parts) or "clear"

    def _waits(self) -> Iterator[tuple[str, int]]:
        for life in self._machine.lives:
            if life.loop is not None and not life.loop.is_closed():
                for number, port in life.loop.domain.events.ports.items():
                    yield f"{life.domain.name} port {number}", port.statistics().woken
