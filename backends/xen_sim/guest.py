"""A simulated guest's lower half, in the shape the event loop asks for.

What differs between the clocks is descriptors alone: the virtual clock has none, the wall clock has
an epoll for each domain.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from activations.abi.event_channel import DOMID_SELF, Virq
from activations.errors import VirtualClockError
from activations.lower import Adopt, Clock, GrantTable, Ready, VirtualLowerHalf
from xen_sim.clock import WallClock
from xen_sim.domain import XenDomain
from xen_sim.hypercall import Hypercalls
from xen_sim.lower_half import Solo5
from xen_sim.store_link import StoreLink
from xen_sim.store_ring import RingConnection

_NOTHING_READY: Ready = []


class Guest:
    """One simulated domain's `LowerHalf` on the virtual clock."""

    clock: Clock = "virtual"
    descriptors: selectors.BaseSelector

    def __init__(self, domain: XenDomain, solo5: type[Solo5] = Solo5) -> None:
        self.domid = domain.domid
        self.name = domain.name
        self.domain = domain
        self.grant_table: GrantTable = domain.grant_table
        self.time_ns: Callable[[], int] = domain.xen.clock.time_ns
        self.xen = Hypercalls(domain)
        self._views = domain.guest_views()
        self._solo5 = solo5(self._views, domain.vcpu, self.xen)
        self.block: Callable[[int | None], Ready | None] = self._solo5.block
        self.poll: Callable[[], Ready | None] = domain.vcpu.give_way
        self.demux = self._solo5.demux
        self.unmask = self._solo5.unmask
        self.mask = self._solo5.mask
        self.notify = self.xen.send
        self.wake = domain.vcpu.kick
        self.descriptors = self._make_descriptors()
        self.start()

    def start(self) -> None:
        """What a guest does with events at boot, and again after a suspend."""
        for word in range(64):
            self._views.locked.mask[word] = (1 << 64) - 1  # a port is masked until it is bound
        self._bound(self.domain.event_channels.bind_virq(Virq.TIMER))
        self.domain.vcpu.interrupts = True

    # Binding

    def alloc_unbound(self, remote_domid: int) -> int:
        port = self.domain.event_channels.alloc_unbound(DOMID_SELF, remote_domid)
        self.domain.trace("alloc_unbound", port=port, remote=remote_domid)
        return self._bound(port)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        port = self.domain.event_channels.bind_interdomain(remote_domid, remote_port)
        self.domain.trace(
            "bind_interdomain", port=port, remote=remote_domid, remote_port=remote_port
        )
        return self._bound(port)

    def bind_virq(self, virq: int) -> int:
        return self._bound(self.domain.event_channels.bind_virq(virq))

    def close_port(self, port: int) -> None:
        self.mask(port)
        self.domain.event_channels.close(port)
        self.domain.trace("close", port=port)

    def _bound(self, port: int) -> int:
        """A port was bound: let it fire. Its number may have been used before; Xen has cleared
        the pending bit when that one was closed, and it was masked ever since."""
        self.unmask((port,))
        return port

    # The rest

    def open_store(self, adopt: Adopt) -> RingConnection:
        link = StoreLink(self.domain)
        return RingConnection(link.page, adopt(self._bound(link.port), "xenstored"))

    def close(self) -> None:
        self.domain.xen.destroy(self.domain)

    def _make_descriptors(self) -> selectors.BaseSelector:
        return NoDescriptors()


class WallGuest(Guest):
    """The same on the wall clock, with real descriptors."""

    clock: Clock = "wall"

    def __init__(self, domain: XenDomain, solo5: type[Solo5] = Solo5) -> None:
        super().__init__(domain, solo5)
        self.block = self._block
        self.poll = self._poll

    def _block(self, deadline: int | None) -> Ready:
        self._solo5.block(deadline)
        return self._watched.look()

    def _poll(self) -> Ready:
        self.domain.vcpu.give_way()
        return self._watched.look()

    def _make_descriptors(self) -> selectors.BaseSelector:
        clock = self.domain.xen.clock
        assert isinstance(clock, WallClock)
        self._watched = WatchedDescriptors(clock, self.domain.vcpu.kick)
        return self._watched


class WatchedDescriptors(selectors.EpollSelector):
    """A domain's descriptors. When one is ready the clock says so and the domain is woken; only
    then is it worth a system call to ask which."""

    def __init__(self, clock: WallClock, wake: Callable[[], None]) -> None:
        super().__init__()
        self._clock = clock
        self._wake = wake
        self._ready = False
        clock.watch(self.fileno(), self._is_ready)

    def look(self) -> Ready:
        """The descriptors that are ready, if the clock has seen any."""
        if not self._ready:
            return _NOTHING_READY
        self._ready = False
        return self.select(0)

    def close(self) -> None:
        self._clock.unwatch(self.fileno())
        super().close()

    def _is_ready(self) -> None:
        self._ready = True
        self._wake()


class NoDescriptors(selectors.BaseSelector):
    """A selector that takes nothing."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        raise VirtualClockError(
            f"{fileobj!r} is a real descriptor: on the virtual clock it would never be ready; "
            'run with clock="wall" (`activations run --clock wall`)'
        )

    def unregister(self, fileobj: Any) -> NoReturn:
        raise KeyError(f"{fileobj!r} is not registered")

    def select(self, timeout: float | None = None) -> Ready:
        return _NOTHING_READY

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


def lower_half(guest: Guest) -> VirtualLowerHalf:
    """Have the type checker hold `Guest` against the protocol."""
    return guest
