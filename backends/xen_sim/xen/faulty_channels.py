"""Event channels in a world where events are late, coalesced, or for nothing.

A guest may see each of these at any time: a vCPU whose turn does not come finds late what was
pending long before; two events without a look in between are one; and an upcall need
not find any. Only who counts events is harmed by a peer that sends once more for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xen_sim.faults.ask import ORDINARY
from xen_sim.xen.event_channel import EventChannels

if TYPE_CHECKING:
    from xen_sim.schedule.clock import Entry
    from xen_sim.xen.channel import Channel
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.vcpu import VCPU

LATE_NS = 1_000_000
HELD_NS = 10_000_000
"""An event that waits for the next one waits no longer."""

NAMES = ("late", "with the next", "an upcall for nothing", "once more")


class _Deferred(NamedTuple):
    """An event that is still to come."""

    entry: Entry
    held: bool
    """Whether the next event brings it along."""


class FaultyChannels(EventChannels):
    """A domain's event channels; what is sent to it may be late."""

    def __init__(self, domain: XenDomain, max_ports: int) -> None:
        super().__init__(domain, max_ports)
        self._deferred: dict[int, _Deferred] = {}
        """By port."""

    def send(self, port: int) -> None:
        channel = self._channels.get(port)
        peer = channel.peer if channel is not None else None
        if channel is None or not isinstance(peer, FaultyChannels):
            super().send(port)
        else:
            peer.receive(peer._channels[channel.remote_port])

    def raise_port(self, port: int) -> None:
        self.receive(self._channels[port])

    def receive(self, channel: Channel) -> None:
        """An event of another's for this port."""
        if not channel.usable:
            return
        deferred = self._deferred.get(channel.port)
        if deferred is not None and deferred.held:
            self._drop(channel)
            self.set_pending(channel)
        elif deferred is not None and not self.ops.is_pending(channel.port):
            pass  # one is on its way, which tells of both
        else:
            self._may_be_late(channel)

    def _may_be_late(self, channel: Channel) -> None:
        faults = self.domain.xen.faults
        assert faults is not None
        who, what = self.vcpus[channel.vcpu].cpu.name, f"event on port {channel.port}"
        match faults.ask("events", who, what, *NAMES):
            case "late":
                self._defer(channel, LATE_NS)
            case "with the next":
                self._defer(channel, HELD_NS, held=True)
            case "once more":
                self.set_pending(channel)
                self._defer(channel, LATE_NS)
            case "an upcall for nothing":
                self.set_pending(channel)
                self._upcall_later(self.vcpus[channel.vcpu])
            case other:
                assert other == ORDINARY
                self.set_pending(channel)

    def _upcall_later(self, vcpu: VCPU) -> None:
        xen = self.domain.xen
        when, name = xen.clock.time_ns() + LATE_NS, f"{vcpu.cpu.name} upcall for nothing"
        xen.calendar.add(when, vcpu.mark_events_pending, name)

    def _defer(self, channel: Channel, ns: int, *, held: bool = False) -> None:
        self._drop(channel)
        xen = self.domain.xen
        name = f"{self.domain.name} event on port {channel.port}"
        entry = xen.calendar.add(xen.clock.time_ns() + ns, lambda: self._comes(channel), name)
        self._deferred[channel.port] = _Deferred(entry, held)

    def _comes(self, channel: Channel) -> None:
        del self._deferred[channel.port]
        self.set_pending(channel)

    def _drop(self, channel: Channel) -> None:
        if deferred := self._deferred.pop(channel.port, None):
            self.domain.xen.calendar.remove(deferred.entry)

    def _free(self, channel: Channel) -> None:
        self._drop(channel)
        super()._free(channel)
