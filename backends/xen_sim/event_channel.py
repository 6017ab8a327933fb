"""Xen's side of event channels: a domain's table of ports, and how an event is set.

The two-level ABI, with Xen's order of steps and Xen's errors (xen/common/event_channel.c,
event_2l.c). Operations raise `XenError` with the errno that Xen would return.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOENT, ENOSPC, EPERM, ESRCH
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NoReturn

from activations.abi.event_channel import (
    DOMID_SELF,
    GLOBAL_VIRQS,
    MAX_PORTS_DEFAULT,
    NR_VIRQS,
    Status,
)
from activations.errors import XenError
from xen_sim.shared_info import BIT, Views

if TYPE_CHECKING:
    from xen_sim.domain import XenDomain


class Channel:
    """struct evtchn: one port's state."""

    __slots__ = ("closed", "consumer", "peer", "remote_domid", "remote_port", "status", "virq")

    def __init__(self, status: Status) -> None:
        self.status = status
        self.remote_domid = 0
        """UNBOUND: who may bind; INTERDOMAIN: who has."""
        self.remote_port = 0
        self.peer: EventChannels | None = None
        self.virq = 0
        self.consumer: Callable[[], None] | None = None
        """Xen itself listens at the other end (xenstored here), and this is what it does."""
        self.closed: Callable[[], None] | None = None
        """What it does when the port is closed."""

    def __str__(self) -> str:
        match self.status:
            case Status.INTERDOMAIN:
                return f"interdomain, domain {self.remote_domid}, port {self.remote_port}"
            case Status.UNBOUND:
                return f"unbound, for domain {self.remote_domid}"
            case Status.VIRQ:
                return f"virq {self.virq}"
            case other:
                return other.name.lower()


class EventChannels:
    """One domain's event channels. Port 0 is reserved; the lowest free one is handed out first."""

    def __init__(self, domain: XenDomain, views: Views, max_ports: int = MAX_PORTS_DEFAULT) -> None:
        self.domain = domain
        self.max_ports = max_ports
        """The highest port number (`max_event_channels`)."""
        self.polled: frozenset[int] = frozenset()
        """Ports that the vCPU waits on in SCHEDOP_poll."""
        self._channels: dict[int, Channel] = {}
        self._fresh = 1
        """The lowest port that was never used."""
        self._freed: list[int] = []
        self._virqs: dict[int, int] = {}
        self._pending = views.pending
        self._mask = views.mask
        self._pending_sel = views.pending_sel
        self._upcall_pending = views.upcall_pending
        self._locked = views.locked
        self._assert_vector = domain.vcpu.assert_vector

    # Setting an event

    def set_pending(self, port: int) -> None:
        """An event for a port: pending, selector, upcall, and the vector, in this order. Each
        step that finds its bit set already ends it. Broken off by a signal handler, it is done
        again in full: at worst there is an upcall for nothing."""
        word, bit = port >> 6, BIT[port & 63]
        try:
            pending = self._pending[word]
            if pending & bit:
                return
            self._locked.pending[word] = pending | bit
            if not self._mask[word] & bit:
                self._select(word)
            if self.polled and port in self.polled:
                self.domain.vcpu.kick()
        except BaseException:
            locked = self._locked
            locked.pending[word] |= bit
            if not locked.mask[word] & bit:
                locked.pending_sel[0] |= BIT[word]
                locked.upcall_pending[0] = 1
                self._assert_vector()
            self.domain.vcpu.kick()
            raise

    def _select(self, word: int) -> None:
        bit = BIT[word]
        selected = self._pending_sel[0]
        if selected & bit:
            return
        self._locked.pending_sel[0] = selected | bit
        upcall = self._upcall_pending[0]
        self._locked.upcall_pending[0] = 1
        if not upcall:
            self._assert_vector()

    # Operations

    def send(self, port: int) -> None:
        """EVTCHNOP_send. To an unbound port: dropped in silence."""
        channel = self._channels.get(port) or self._channel("send", port)
        if channel.peer is not None:
            channel.peer.set_pending(channel.remote_port)
        elif channel.consumer is not None:
            channel.consumer()
        elif channel.status is Status.IPI:
            self.set_pending(port)
        elif channel.status is not Status.UNBOUND:
            self._refuse("send", EINVAL, f"port {port} is {channel}")

    def alloc_unbound(self, domid: int, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound. The remote domain need not exist yet."""
        owner = self._domain("alloc_unbound", domid)
        if owner is not self.domain and not self.domain.privileged:
            self._refuse("alloc_unbound", EPERM, f"on behalf of domain {domid}")
        channel = Channel(Status.UNBOUND)
        channel.remote_domid = self._resolve(remote_domid)
        return owner.event_channels._take(channel, "alloc_unbound")

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. The new port is set pending once, as Xen does."""
        op = "bind_interdomain"
        remote = self._domain(op, remote_domid).event_channels
        theirs = remote.channel(remote_port)
        me = self.domain.domid
        if theirs is None or theirs.status is not Status.UNBOUND or theirs.remote_domid != me:
            state = theirs or "free"
            self._refuse(op, EINVAL, f"domain {remote_domid}'s port {remote_port} is {state}")
        ours = Channel(Status.INTERDOMAIN)
        ours.remote_domid, ours.remote_port, ours.peer = remote.domain.domid, remote_port, remote
        port = self._take(ours, op)
        theirs.status = Status.INTERDOMAIN
        theirs.remote_port, theirs.peer = port, self
        self.set_pending(port)
        return port

    def bind_virq(self, virq: int, vcpu: int = 0) -> int:
        """EVTCHNOP_bind_virq."""
        if not 0 <= virq < NR_VIRQS or (virq in GLOBAL_VIRQS and vcpu):
            self._refuse("bind_virq", EINVAL, f"virq {virq} on vcpu {vcpu}")
        self._check_vcpu("bind_virq", vcpu)
        if virq in self._virqs:
            self._refuse("bind_virq", EEXIST, f"virq {virq} is port {self._virqs[virq]}")
        channel = Channel(Status.VIRQ)
        channel.virq = virq
        self._virqs[virq] = port = self._take(channel, "bind_virq")
        return port

    def bind_pirq(self, pirq: int) -> NoReturn:
        """EVTCHNOP_bind_pirq. There is no hardware here to take interrupts from."""
        errno = EINVAL if self.domain.privileged else EPERM
        self._refuse("bind_pirq", errno, f"physical interrupt {pirq}")

    def bind_ipi(self, vcpu: int = 0) -> int:
        """EVTCHNOP_bind_ipi."""
        self._check_vcpu("bind_ipi", vcpu)
        return self._take(Channel(Status.IPI), "bind_ipi")

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        """EVTCHNOP_bind_vcpu: deliver to this vCPU, of which there is only number 0."""
        self._check_vcpu("bind_vcpu", vcpu)
        channel = self._channel("bind_vcpu", port)
        if channel.status is Status.IPI or (
            channel.status is Status.VIRQ and channel.virq not in GLOBAL_VIRQS
        ):
            self._refuse("bind_vcpu", EINVAL, f"port {port} is {channel}")

    def close(self, port: int) -> None:
        """EVTCHNOP_close. The pending bit goes, the mask bit stays; the peer becomes unbound."""
        channel = self._channel("close", port)
        peer = channel.peer
        if peer is not None and (theirs := peer.channel(channel.remote_port)):
            theirs.status, theirs.peer = Status.UNBOUND, None
            theirs.remote_domid = self.domain.domid
        if channel.status is Status.VIRQ:
            del self._virqs[channel.virq]
        del self._channels[port]
        heappush(self._freed, port)
        word, bit = port >> 6, BIT[port & 63]
        self._locked.pending[word] = self._pending[word] & ~bit
        if channel.closed is not None:
            channel.closed()

    def status(self, domid: int, port: int) -> Channel | None:
        """EVTCHNOP_status: the port's state, None if it is closed."""
        channels = self._domain("status", domid).event_channels
        if not 0 <= port <= channels.max_ports:
            self._refuse("status", EINVAL, f"domain {domid} has no port {port}")
        return channels.channel(port)

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask. Acts only on a masked port."""
        if not 0 <= port <= self.max_ports:
            self._refuse("unmask", EINVAL, f"port {port}")
        if self.channel(port) is None:
            return
        word, bit = port >> 6, BIT[port & 63]
        masked = self._mask[word]
        self._locked.mask[word] = masked & ~bit
        if masked & bit and self._pending[word] & bit:
            self._select(word)

    def reset(self, domid: int = DOMID_SELF) -> None:
        """EVTCHNOP_reset: close every port. Another domain must be paused, and here none is."""
        if self._domain("reset", domid) is not self.domain:
            self._refuse("reset", EINVAL, f"domain {domid} is not paused")
        self.close_all()

    # Xen's own business

    def listen(self, consumer: Callable[[], None], closed: Callable[[], None]) -> int:
        """A port at whose other end Xen itself listens."""
        channel = Channel(Status.INTERDOMAIN)
        channel.consumer, channel.closed = consumer, closed
        return self._take(channel, "alloc_unbound")

    def raise_virq(self, virq: int) -> None:
        """Raise a virtual interrupt; nothing happens where it is not bound."""
        port = self._virqs.get(virq)
        if port is not None:
            self.set_pending(port)

    def channel(self, port: int) -> Channel | None:
        return self._channels.get(port)

    def is_pending(self, port: int) -> bool:
        return bool(self._pending[port >> 6] & BIT[port & 63])

    def open_ports(self) -> list[int]:
        return sorted(self._channels)

    def close_all(self) -> None:
        for port in self.open_ports():
            self.close(port)

    def _take(self, channel: Channel, op: str) -> int:
        if self._freed:
            port = heappop(self._freed)
        elif self._fresh > self.max_ports:
            self._refuse(op, ENOSPC, f"all {self.max_ports} ports are taken")
        else:
            port = self._fresh
            self._fresh += 1
        self._channels[port] = channel
        return port

    def _channel(self, op: str, port: int) -> Channel:
        channel = self._channels.get(port)
        if channel is None:
            self._refuse(op, EINVAL, f"port {port} is free")
        return channel

    def _resolve(self, domid: int) -> int:
        return self.domain.domid if domid == DOMID_SELF else domid

    def _domain(self, op: str, domid: int) -> XenDomain:
        domain = self.domain.xen.domains.get(self._resolve(domid))
        if domain is None:
            self._refuse(op, ESRCH, f"domain {domid}")
        return domain

    def _check_vcpu(self, op: str, vcpu: int) -> None:
        if vcpu != 0:
            self._refuse(op, ENOENT, f"there is no vcpu {vcpu}")

    def _refuse(self, op: str, errno: int, detail: str) -> NoReturn:
        raise XenError(errno, f"EVTCHNOP_{op}", f"{self.domain.name}: {detail}")
