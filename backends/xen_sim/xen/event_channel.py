"""A domain's table of ports, and the operations on it (xen/common/event_channel.c).

Operations raise `XenError` with the errno that Xen would return, and look at their arguments in
Xen's order: a full table is ENOSPC before anything is said of a remote port. How a guest is told
of an event is the affair of the ABI, `ops`: two levels, until the guest asks for FIFO.

Tests hold this file against Xen's own, operation by operation (docs/truth.md).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EBUSY,
    EEXIST,
    EINVAL,
    ENOENT,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
    EPERM,
    ESRCH,
)
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NoReturn

from activations.abi.event_channel import (
    DOMID_SELF,
    FIFO_LINK_BITS,
    FIFO_LOWEST_PRIORITY,
    FIFO_MAX_OFFSET,
    NR_VIRQS,
    PER_VCPU_VIRQS,
    Status,
)
from activations.errors import XenError
from xen_sim.xen.channel import Channel
from xen_sim.xen.event_2l import TwoLevel, two_level
from xen_sim.xen.event_fifo import Fifo

if TYPE_CHECKING:
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.vcpu import VCPU

BUCKET = 64
"""EVTCHNS_PER_BUCKET: ports that a domain's table begins with, and grows by."""

NR_PIRQS = 48
"""Physical interrupts of a domain: the 16 of an ISA bus, and 32 that Xen adds for a guest."""


class EventChannels:
    """One domain's event channels. Port 0 is reserved; the lowest free one is handed out first."""

    __slots__ = (
        *("_channels", "_freed", "_fresh", "_pirqs"),
        *("domain", "max_ports", "ops", "valid", "vcpus"),
    )

    def __init__(self, domain: XenDomain, max_ports: int) -> None:
        self.domain = domain
        self.vcpus: list[VCPU] = domain.vcpus
        self.max_ports = max_ports
        """The highest port number (`max_event_channels`)."""
        self.ops: TwoLevel | Fifo = two_level(domain)
        self.valid: int = BUCKET
        """How many ports the table has room for now."""
        self._channels: dict[int, Channel] = {}
        """Every port that was ever bound."""
        self._fresh = 1
        """The lowest port that was never handed out."""
        self._freed: list[int] = []
        """Ports below it that may be handed out again, as a heap."""
        self._pirqs: dict[int, int] = {}

    # Operations

    def send(self, port: int) -> None:
        """EVTCHNOP_send. To an unbound port: dropped in silence."""
        channel = self._channels.get(port)
        if channel is None:
            self._refuse("send", EINVAL, f"port {port} is free")
        peer = channel.peer
        if peer is not None:
            theirs = peer._channels[channel.remote_port]
            peer.ops.set_pending(peer.vcpus[theirs.vcpu], theirs)
        elif channel.consumer is not None:
            channel.consumer()
        elif channel.status is Status.IPI:
            self.set_pending(channel)
        elif channel.status is not Status.UNBOUND:
            self._refuse("send", EINVAL, f"port {port} is {channel}")

    def alloc_unbound(self, domid: int, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound. The remote domain need not exist yet."""
        op = "alloc_unbound"
        owner = self._domain(op, domid)
        channels = owner.event_channels
        channel = channels._take(op)
        if not self._may_act_for(owner):
            channels._give_back(channel)
            self._refuse(op, EPERM, f"on behalf of domain {domid}")
        channel.remote_domid = self._resolve(remote_domid)
        return channels._bound(channel, Status.UNBOUND)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. The new port is set pending once, as Xen does."""
        op = "bind_interdomain"
        remote = self._domain(op, remote_domid).event_channels
        ours = self._take(op)
        theirs = remote._channels.get(remote_port)
        me = self.domain.domid
        if theirs is None or theirs.status is not Status.UNBOUND or theirs.remote_domid != me:
            self._give_back(ours)
            state = theirs or "free"
            self._refuse(op, EINVAL, f"domain {remote_domid}'s port {remote_port} is {state}")
        ours.remote_domid, ours.remote_port, ours.peer = remote.domain.domid, remote_port, remote
        port = self._bound(ours, Status.INTERDOMAIN)
        theirs.status = Status.INTERDOMAIN
        theirs.remote_port, theirs.peer = port, self
        self.set_pending(ours)
        return port

    def bind_virq(self, virq: int, vcpu: int = 0) -> int:
        """EVTCHNOP_bind_virq. A vCPU has a VIRQ once; a global one is vCPU 0's to bind."""
        op = "bind_virq"
        if not 0 <= virq < NR_VIRQS or (virq not in PER_VCPU_VIRQS and vcpu):
            self._refuse(op, EINVAL, f"virq {virq} on vcpu {vcpu}")
        virqs = self._vcpu(op, vcpu).virqs
        if virq in virqs:
            self._refuse(op, EEXIST, f"virq {virq} is port {virqs[virq]}")
        channel = self._take(op)
        channel.number, channel.vcpu = virq, vcpu
        virqs[virq] = port = self._bound(channel, Status.VIRQ)
        return port

    def bind_pirq(self, pirq: int) -> int:
        """EVTCHNOP_bind_pirq. There is no hardware here: the port never fires."""
        op = "bind_pirq"
        if not 0 <= pirq < NR_PIRQS:
            self._refuse(op, EINVAL, f"there is no physical interrupt {pirq}")
        if self.domain.pv:
            self._refuse(op, EPERM, f"physical interrupt {pirq}")
        if pirq in self._pirqs:
            self._refuse(op, EEXIST, f"physical interrupt {pirq} is port {self._pirqs[pirq]}")
        channel = self._take(op)
        channel.number = pirq
        self._pirqs[pirq] = port = self._bound(channel, Status.PIRQ)
        return port

    def bind_ipi(self, vcpu: int = 0) -> int:
        """EVTCHNOP_bind_ipi."""
        self._vcpu("bind_ipi", vcpu)
        channel = self._take("bind_ipi")
        channel.vcpu = vcpu
        return self._bound(channel, Status.IPI)

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        """EVTCHNOP_bind_vcpu: tell this vCPU from now on. What is pending stays where it is."""
        op = "bind_vcpu"
        self._vcpu(op, vcpu)
        channel = self._valid(op, port)
        local = channel.status is Status.VIRQ and channel.number in PER_VCPU_VIRQS
        if local or channel.status in (Status.CLOSED, Status.IPI):
            self._refuse(op, EINVAL, f"port {port} is {channel}")
        channel.vcpu = vcpu

    def close(self, port: int) -> None:
        """EVTCHNOP_close. The pending bit goes, the mask bit stays; the peer becomes unbound."""
        channel = self._valid("close", port)
        if not channel.usable:
            self._refuse("close", EINVAL, f"port {port} is {channel}")
        self._free(channel)

    def status(self, domid: int, port: int) -> Channel:
        """EVTCHNOP_status: the port's state, as it stands."""
        owner = self._domain("status", domid)
        channel = owner.event_channels._valid("status", port)
        if not self._may_act_for(owner):
            self._refuse("status", EPERM, f"of domain {domid}")
        return channel

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask. On the two-level ABI it acts only on a masked port."""
        channel = self._valid("unmask", port)
        if channel.usable:
            self.ops.unmask(self.vcpus[channel.vcpu], channel)

    def reset(self, domid: int = DOMID_SELF, *, resuming: bool = False) -> None:
        """EVTCHNOP_reset: close every port and go back to two levels. Another domain must be
        paused, and here none is; a reset is never interrupted, so none can be resumed."""
        owner = self._domain("reset", domid)
        if not self._may_act_for(owner):
            self._refuse("reset", EPERM, f"of domain {domid}")
        if owner is not self.domain:
            self._refuse("reset", EINVAL, f"domain {domid} is not paused")
        if resuming:
            self._refuse("reset", EBUSY, "no reset is under way")
        self.close_all()

    def init_control(self, gfn: int, offset: int, vcpu: int) -> int:
        """EVTCHNOP_init_control: a vCPU's control block; the first one brings the FIFO ABI. How
        many bits a link has."""
        op = "init_control"
        self._vcpu(op, vcpu)
        if offset > FIFO_MAX_OFFSET or offset % 8:
            self._refuse(op, EINVAL, f"offset {offset}")
        fifo = self.ops if isinstance(self.ops, Fifo) else Fifo(self.domain)
        if not fifo.map_control(vcpu, self.domain.frames.get(gfn), offset):
            self._refuse(op, EINVAL, f"frame {gfn} for vcpu {vcpu}")
        if fifo is not self.ops:
            self._switch(fifo)
        return FIFO_LINK_BITS

    def expand_array(self, gfn: int) -> None:
        """EVTCHNOP_expand_array: words for 1,024 further ports; what came before there were words
        is told now."""
        op = "expand_array"
        fifo = self.ops
        if not isinstance(fifo, Fifo):
            self._refuse(op, EOPNOTSUPP, "the two-level ABI has no array")
        if fifo.full:
            self._refuse(op, ENOSPC, "the array has all its pages")
        frame = self.domain.frames.get(gfn)
        if frame is None:
            self._refuse(op, EINVAL, f"there is no frame {gfn}")
        for port in fifo.add_page(frame):
            channel = self._channels.get(port)
            if channel is not None and channel.pending:
                fifo.set_pending(self.vcpus[channel.vcpu], channel)

    def set_priority(self, port: int, priority: int) -> None:
        """EVTCHNOP_set_priority: of what comes from now on."""
        op = "set_priority"
        channel = self._valid(op, port)
        if not self.ops.has_priorities:
            self._refuse(op, ENOSYS, "the two-level ABI has no priorities")
        if not channel.usable:
            self._refuse(op, EACCES, f"port {port} is {channel}")
        if priority > FIFO_LOWEST_PRIORITY:
            self._refuse(op, EINVAL, f"priority {priority}")
        channel.priority = priority

    # Xen's own business

    def set_pending(self, channel: Channel) -> None:
        """An event for a port of this domain."""
        if channel.usable:
            self.ops.set_pending(self.vcpus[channel.vcpu], channel)

    def raise_port(self, port: int) -> None:
        """An event that Xen itself sends, as xenstored does here."""
        self.set_pending(self._channels[port])

    def listen(self, consumer: Callable[[], None], closed: Callable[[], None]) -> int:
        """A port at whose other end Xen itself listens."""
        channel = self._take("alloc_unbound")
        channel.consumer, channel.closed = consumer, closed
        return self._bound(channel, Status.INTERDOMAIN)

    def raise_virq(self, virq: int, vcpu: int = 0) -> None:
        """Raise a virtual interrupt, of this vCPU where each has its own; nothing happens where it
        is not bound."""
        port = self.vcpus[vcpu].virqs.get(virq)
        if port is not None:
            self.set_pending(self._channels[port])

    def channel(self, port: int) -> Channel | None:
        """A port that is bound; None if it is free."""
        channel = self._channels.get(port)
        return channel if channel is not None and channel.usable else None

    def poll(self, port: int) -> bool:
        """Whether a port is pending. EINVAL for one that stands for nothing."""
        if self.channel(port) is None:
            raise XenError(EINVAL, "SCHEDOP_poll", f"{self.domain.name}: there is no port {port}")
        return self.ops.is_pending(port)

    def forget(self) -> None:
        """The domain begins anew: close every port, and begin the table again."""
        self.close_all()
        self.valid, self._fresh = BUCKET, 1
        self._channels.clear()
        self._freed.clear()

    def open_ports(self) -> list[int]:
        return sorted(port for port, channel in self._channels.items() if channel.usable)

    def close_all(self) -> None:
        """Close every port, and go back to two levels."""
        for port in self.open_ports():
            self._free(self._channels[port])
        if isinstance(self.ops, Fifo):
            self.ops.destroy()
            self.ops = two_level(self.domain)

    # The table

    def _take(self, op: str) -> Channel:
        """The lowest port that is free, the table grown as far as that needs. One that is on a
        queue still is passed over, and stays a candidate."""
        busy = []
        while self._freed:
            channel = self._channels[heappop(self._freed)]
            if not self.ops.is_busy(channel):
                break
            busy.append(channel.port)
        else:
            channel = self._unused(busy)
        for port in busy:
            heappush(self._freed, port)
        if channel.port > self.max_ports or channel.port >= self.ops.max_ports:
            self._give_back(channel)
            self._refuse(op, ENOSPC, f"all {self.max_ports} ports are taken")
        while channel.port >= self.valid:
            self.valid += BUCKET
        return channel

    def _unused(self, busy: list[int]) -> Channel:
        """The lowest port that was never handed out, and whose word was not made to look busy."""
        while True:
            port = self._fresh
            if port > self.max_ports or port >= self.ops.max_ports:
                return Channel(port)  # there is no such port: it is not for keeping
            self._fresh += 1
            channel = self._channels.setdefault(port, Channel(port))
            if channel.port >= self.valid or not self.ops.is_busy(channel):
                return channel
            busy.append(channel.port)

    def _give_back(self, channel: Channel) -> None:
        """A port was taken and could not be bound."""
        if channel.port < self._fresh:
            heappush(self._freed, channel.port)

    def _bound(self, channel: Channel, status: Status) -> int:
        channel.status = status
        self.ops.init(channel)
        return channel.port

    def _free(self, channel: Channel) -> None:
        """Close a port that is bound."""
        match channel.status:
            case Status.VIRQ:
                virq = channel.number
                owner = channel.vcpu if virq in PER_VCPU_VIRQS else 0
                del self.vcpus[owner].virqs[virq]
            case Status.PIRQ:
                del self._pirqs[channel.number]
        self.ops.clear_pending(channel)
        if channel.peer is not None:
            theirs = channel.peer._channels[channel.remote_port]
            if theirs is not channel:
                theirs.status, theirs.peer = Status.UNBOUND, None
        closed = channel.closed
        channel.status, channel.vcpu = Status.CLOSED, 0
        channel.peer = channel.consumer = channel.closed = None
        heappush(self._freed, channel.port)
        if closed is not None:
            closed()

    def _switch(self, fifo: Fifo) -> None:
        """The guest has asked for the FIFO ABI: what is pending is kept for its words."""
        pending = self.ops.is_pending
        for port in range(1, min(self.valid, self.ops.max_ports)):
            if pending(port):
                channel = self._channels.get(port)
                if channel is None:
                    channel = self._channels[port] = Channel(port)
                channel.pending = True
        for channel in self._channels.values():
            fifo.init(channel)
        self.ops = fifo

    # What is refused

    def _valid(self, op: str, port: int) -> Channel:
        """A port there is room for in the table, bound or free."""
        channel = self._channels.get(port)
        if channel is None:
            if not 0 <= port < self.valid:
                self._refuse(op, EINVAL, f"there is no port {port}")
            channel = Channel(port)
        return channel

    def _resolve(self, domid: int) -> int:
        return self.domain.domid if domid == DOMID_SELF else domid

    def _domain(self, op: str, domid: int) -> XenDomain:
        domain = self.domain.xen.domains.get(self._resolve(domid))
        if domain is None:
            self._refuse(op, ESRCH, f"domain {domid}")
        return domain

    def _may_act_for(self, domain: XenDomain) -> bool:
        return domain is self.domain or self.domain.privileged

    def _vcpu(self, op: str, vcpu: int) -> VCPU:
        if not 0 <= vcpu < len(self.vcpus):
            self._refuse(op, ENOENT, f"there is no vcpu {vcpu}")
        return self.vcpus[vcpu]

    def _refuse(self, op: str, errno: int, detail: str) -> NoReturn:
        raise XenError(errno, f"EVTCHNOP_{op}", f"{self.domain.name}: {detail}")
