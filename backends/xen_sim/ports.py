"""All ports of a simulated machine at one moment of a run.

The moment is a time on the machine's clock, or else the one when most ports were open: looked for
as something is about to be closed, and as nothing can happen any more.
"""

from __future__ import annotations

from collections.abc import Callable

from activations.abi.event_channel import Status
from activations.errors import BlockedForever, SimulationOver
from activations.events import Events
from activations.evtchn.listing import PortState
from activations.loop import EventLoop
from activations.port import Port
from xen_sim import waiting
from xen_sim.life import Life
from xen_sim.machine import Machine
from xen_sim.xen.channel import Channel
from xen_sim.xen.domain import XenDomain

NUMBERED = {Status.VIRQ, Status.PIRQ}
WITH_DOMAIN = {Status.UNBOUND, Status.INTERDOMAIN}


class Seen(SimulationOver):
    """The moment has come, and the run need not go on."""


class Snapshot:
    """The ports as they were at its moment. Made before the machine runs."""

    def __init__(self, machine: Machine, at: int | None) -> None:
        self.ns: int = 0
        """When its moment was, since the machine was made."""
        self.ports: list[PortState] | None = None
        """None as long as the moment has not come."""
        self._machine = machine
        self._began = machine.xen.clock.time_ns()
        if at is not None:
            machine.xen.calendar.add(self._began + at, self._stop, "a snapshot")
            return
        self._most = 0
        for life in machine.lives:
            if life.loop is not None:
                self._listen(life.loop.domain.events)
        report = machine.xen.scheduler.report

        def blocked(error: BlockedForever) -> BlockedForever:
            self._look()
            return report(error)

        machine.xen.scheduler.report = blocked

    def _listen(self, events: Events) -> None:
        close: Callable[[Port], None] = events.close

        def closing(port: Port) -> None:
            self._look()
            close(port)

        events.close = closing  # type: ignore[method-assign]

    def _look(self) -> None:
        domains = self._machine.xen.domains.values()
        number = sum(len(domain.event_channels.open_ports()) for domain in domains)
        if number > self._most:
            self._most = number
            self._take()

    def _stop(self) -> None:
        self._take()
        raise Seen

    def _take(self) -> None:
        self.ns = self._machine.xen.clock.time_ns() - self._began
        held = _held(self._machine.lives)
        self.ports = [
            _state(domain, channel, held)
            for domain in sorted(self._machine.xen.domains.values(), key=lambda each: each.domid)
            for port in domain.event_channels.open_ports()
            if (channel := domain.event_channels.channel(port)) is not None
        ]


Held = dict[tuple[int, int], str]
"""Who holds a port, by domid and number."""


def _held(lives: list[Life]) -> Held:
    found: Held = {}
    for life in lives:
        loop = life.loop
        if not isinstance(loop, EventLoop) or loop.is_closed():
            continue
        domid = life.domain.domid
        for number in loop.domain.events.ports:
            found[domid, number] = "no task waits"
        for number, who in waiting.waiters(loop).items():
            found[domid, number] = who
    return found


def _state(domain: XenDomain, channel: Channel, held: Held) -> PortState:
    ours = channel.consumer is not None
    return PortState(
        domain.domid,
        channel.port,
        channel.status,
        channel.vcpu,
        None if ours or channel.status not in WITH_DOMAIN else channel.remote_domid,
        None if ours or channel.status is not Status.INTERDOMAIN else channel.remote_port,
        channel.number if channel.status in NUMBERED else None,
        domain.event_channels.ops.is_pending(channel.port),
        domain.event_channels.ops.is_masked(channel.port),
        "xenstore" if ours else held.get((domain.domid, channel.port), "the kernel"),
    )
