"""An event loop on a simulated vCPU: its `LowerHalf`, over a kernel.

The only module below the machine that knows asyncio. What differs between the clocks is
descriptors alone.

asyncio keeps three things by thread that belong to the vCPU: the running loop, the hooks for
asynchronous generators, and how deep coroutines note where they were made, which debug mode is
about. (From Python 3.14 on the current task too; up to 3.13 it is kept by loop.) They change hands
with the processor; context variables do so by themselves.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sys import (
    get_asyncgen_hooks,
    get_coroutine_origin_tracking_depth,
    set_asyncgen_hooks,
    set_coroutine_origin_tracking_depth,
)
from typing import Any, NamedTuple

from activations.abi.event_channel import DOMID_SELF, PER_VCPU_VIRQS, Virq
from activations.accelerator import accelerator
from activations.lower import Adopt, Clock, GrantTable, Ready, VirtualLowerHalf
from activations.shortcut import shorten
from xen_sim.guests.descriptors import NoDescriptors, WatchedDescriptors
from xen_sim.guests.fused import FusedSolo5
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Platform
from xen_sim.guests.store_ring import RingConnection
from xen_sim.schedule.clock import WallClock

_TASK_BY_THREAD = sys.version_info >= (3, 14)


class AsyncioState(NamedTuple):
    """What asyncio keeps by thread and the machine by vCPU."""

    loop: asyncio.AbstractEventLoop | None
    hooks: tuple[Any, ...]
    """In a tuple of our own: the garbage collector does not look into the one that `sys` gives, so
    that a loop whose frame keeps it would never go."""
    origin_depth: int
    task: asyncio.Task[Any] | None

    @classmethod
    def save(cls) -> AsyncioState:
        """As it stands now; the task that runs is left, where that is kept by thread."""
        loop = _get_running_loop()
        task = asyncio.current_task(loop) if _TASK_BY_THREAD and loop else None
        if loop is not None and task is not None:
            asyncio.tasks._leave_task(loop, task)
        hooks = tuple(get_asyncgen_hooks())
        return cls(loop, hooks, get_coroutine_origin_tracking_depth(), task)

    @classmethod
    def fresh(cls) -> AsyncioState:
        """What a vCPU begins with: nothing of asyncio's is its own, and no domain's debug mode."""
        return cls(None, (None, None), get_coroutine_origin_tracking_depth(), None)

    def stale(self) -> bool:
        """Debug mode may be switched on or off while the loop runs."""
        return self.origin_depth != get_coroutine_origin_tracking_depth()

    def restore(self) -> None:
        loop, hooks, origin_depth, task = self
        _set_running_loop(loop)
        set_asyncgen_hooks(*hooks)
        set_coroutine_origin_tracking_depth(origin_depth)
        if loop is not None and task is not None:
            asyncio.tasks._enter_task(loop, task)


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """What a domain has besides its processors."""

    domid: int
    grant_table: GrantTable
    open_store: Callable[[], tuple[memoryview, int]]
    """A new link to xenstored: its page, and the port that goes with it."""
    close: Callable[[], None]
    """An event loop of this domain's is closed."""
    trace: Callable[..., None]


class Guest:
    """One vCPU's `LowerHalf` on the virtual clock."""

    clock: Clock = "virtual"
    descriptors: selectors.BaseSelector

    def __init__(self, platform: Platform, kernel: Kernel, devices: Devices) -> None:
        self.domid: int = devices.domid
        self.name: str = platform.name
        self.platform = platform
        self.kernel = kernel
        self.grant_table: GrantTable = devices.grant_table
        self.time_ns: Callable[[], int] = platform.time_ns
        self._devices = devices
        self._xen = platform.xen
        self._vcpu = platform.vcpu
        self.block: Callable[[int | None], Ready | None] = kernel.block
        self.poll: Callable[[], Ready | None] = platform.cpu.give_way
        self.demux: Callable[[], Sequence[int]] = kernel.demux
        self.unmask: Callable[[Sequence[int]], None] = kernel.unmask
        self.mask: Callable[[int], None] = kernel.mask
        if accelerator is not None and isinstance(kernel, FusedSolo5):
            fast = kernel.accelerated(accelerator)
            self.demux, self.unmask = fast.demux, fast.unmask
        self.notify: Callable[[int], None] = platform.xen.send
        self.wake: Callable[[], None] = platform.cpu.kick
        platform.cpu.keep = AsyncioState.save
        self.descriptors = self._make_descriptors()
        self.start()

    def start(self) -> None:
        """What a guest does with events at boot, and again after a suspend."""
        self.kernel.start()
        self._bound(self._xen.bind_virq(Virq.TIMER, self._vcpu))

    # Binding

    def alloc_unbound(self, remote_domid: int) -> int:
        port = self._here(self._xen.alloc_unbound(DOMID_SELF, remote_domid))
        self._devices.trace("alloc_unbound", port=port, remote=remote_domid)
        return self._bound(port)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        port = self._here(self._xen.bind_interdomain(remote_domid, remote_port))
        self._devices.trace(
            "bind_interdomain", port=port, remote=remote_domid, remote_port=remote_port
        )
        return self._bound(port)

    def bind_virq(self, virq: int) -> int:
        if virq in PER_VCPU_VIRQS:
            return self._bound(self._xen.bind_virq(virq, self._vcpu))
        return self._bound(self._here(self._xen.bind_virq(virq)))

    def close_port(self, port: int) -> None:
        self.mask(port)
        self.kernel.closed(port)
        self._xen.close(port)
        self._devices.trace("close", port=port)

    def _here(self, port: int) -> int:
        """Have this vCPU told of a port; it is masked still."""
        if self._vcpu:
            self._xen.bind_vcpu(port, self._vcpu)
        return port

    def _bound(self, port: int) -> int:
        """A port was bound: let it fire. Its number may have been used before; Xen has cleared
        the pending bit when that one was closed, and it was masked ever since."""
        self.kernel.bound(port)
        self.unmask((port,))
        return port

    # xenstore, and the end

    def open_store(self, adopt: Adopt) -> RingConnection:
        page, port = self._devices.open_store()
        return RingConnection(page, adopt(self._bound(self._here(port)), "xenstored"))

    def close(self) -> None:
        self._devices.close()

    def _make_descriptors(self) -> selectors.BaseSelector:
        return NoDescriptors()


class WallGuest(Guest):
    """The same on the wall clock, with real descriptors."""

    clock: Clock = "wall"

    def __init__(
        self, platform: Platform, kernel: Kernel, devices: Devices, wall: WallClock
    ) -> None:
        self._wall = wall
        super().__init__(platform, kernel, devices)
        shorten(self, block=self._block, poll=self._poll)

    def close(self) -> None:
        super().close()
        del self.block, self.poll  # its own, which know it

    def _block(self, deadline: int | None) -> Ready:
        self.kernel.block(deadline)
        return self._watched.look()

    def _poll(self) -> Ready:
        self.platform.cpu.give_way()
        return self._watched.look()

    def _make_descriptors(self) -> selectors.BaseSelector:
        self._watched = WatchedDescriptors(self._wall, self.platform.cpu.kick)
        return self._watched


def lower_half(guest: Guest) -> VirtualLowerHalf:
    """Have the type checker hold `Guest` against the protocol."""
    return guest
