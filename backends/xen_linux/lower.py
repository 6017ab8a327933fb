"""The lower half over Linux's devices.

One epoll serves the event device and every descriptor that asyncio registers. The turn of a loop
in which one port fires costs three system calls (epoll_wait; read, which takes every fired port
at once; write, which lets them all fire again), and one more for each notify.

The device has no mask. A port that was read stays disabled until it is written back, so masking
is keeping: a masked port that is read is held, neither reported nor written back, and unmasking
reports it once.

Numbers are reused: Xen hands out the lowest free one. Unbinding a port leaves its entry in the
device's ring, and whoever gets the number next must not find it there. So the ring is read empty
right after every unbind: no new entry of that port can follow, and the ones of others are kept
for the next demux.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from activations.abi.linux_evtchn import PORTS_PER_READ
from activations.backend import Clock, GrantTable, Ready
from activations.errors import XenError
from xen_linux.evtchn import EventDevice
from xen_linux.grants import LinuxGrantTable
from xen_linux.store import DescriptorConnection, connect

if TYPE_CHECKING:
    from activations.domain import Domain

LONGEST_BLOCK = 86_400.0
"""Seconds. No block is longer than a day, as in every lower half."""

_NS = 1e-9
_DESCRIPTORS_AT_ONCE = 256


class LinuxLowerHalf:
    """The lower half of the domain this process runs in. Times are those of CLOCK_MONOTONIC.

    `block` is as precise as epoll: it ends up to a millisecond after the deadline, never before.
    """

    clock: Clock = "wall"
    time_ns = staticmethod(time.monotonic_ns)

    def __init__(
        self, domid: int, name: str, events: EventDevice, grant_table: LinuxGrantTable
    ) -> None:
        self.domid = domid
        self.name = name
        self.grant_table: GrantTable = grant_table
        self._grants = grant_table
        self.descriptors: selectors.BaseSelector = selectors.EpollSelector()
        self._keys = self.descriptors.get_map()
        # A second descriptor of the selector's own epoll: the event device joins it without
        # becoming one of asyncio's keys.
        self._epoll = select.epoll.fromfd(os.dup(self.descriptors.fileno()))
        self._epoll.register(events.fileno(), select.EPOLLIN)
        self._events = events
        self._device = events.fileno()
        self._deadline: int | None = None
        self._readable = False
        self._open: set[int] = set()
        """Ports whose events are reported: bound and not masked."""
        self._masked: set[int] = set()
        self._held: set[int] = set()
        """Masked ports that fired: reported when they are unmasked."""
        self._fired: list[int] = []
        """Ports to report at the next demux, already read."""

    # The idle step

    def set_timer(self, deadline: int | None) -> None:
        """Let `block` end at this time (ns), or at nothing but events and descriptors."""
        self._deadline = deadline

    def block(self) -> Ready:
        """Wait for an event, a descriptor or the timer; say which descriptors are ready."""
        if self._fired:
            return self._look(0)
        if self._deadline is None:
            return self._look(LONGEST_BLOCK)
        left = (self._deadline - time.monotonic_ns()) * _NS
        return self._look(min(max(left, 0), LONGEST_BLOCK))

    def poll(self) -> Ready:
        """Say which descriptors are ready, and look at the event device."""
        return self._look(0)

    def demux(self) -> Sequence[int]:
        """The ports that fired, each disabled until `unmask`; at most 1,024 of the device's.

        A ring that overflowed has lost events. Every port may have fired, so every port is
        reported: a spurious event is harmless, a lost one is not.
        """
        fired: Sequence[int] = ()
        if self._readable:
            self._readable = False
            fired = self._read()
        if self._fired:
            fired = [*self._fired, *fired]
            self._fired.clear()
        return fired

    def unmask(self, ports: Sequence[int]) -> None:
        """Let ports fire again. One that fired while it was masked is reported at once."""
        if self._masked:
            ports = self._let_go(ports)
        if ports:
            self._events.enable(ports)

    # Event channels

    def mask(self, port: int) -> None:
        """Hold back what this port reports, until `unmask`."""
        self._open.discard(port)
        self._masked.add(port)
        if port in self._fired:
            self._fired.remove(port)
            self._held.add(port)

    def notify(self, port: int) -> None:
        """Send an event."""
        self._events.notify(port)

    def alloc_unbound(self, remote_domid: int) -> int:
        """A new port that `remote_domid` may bind to."""
        return self._opened(self._events.bind_unbound_port(remote_domid))

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """A new port connected to one of another domain. It fires once at once, as Xen has it."""
        return self._opened(self._events.bind_interdomain(remote_domid, remote_port))

    def bind_virq(self, virq: int) -> int:
        """A new port for a virtual interrupt."""
        return self._opened(self._events.bind_virq(virq))

    def close_port(self, port: int) -> None:
        """Unbind a port; its number is clean for whoever gets it next."""
        self._events.unbind(port)
        for ports in (self._open, self._masked, self._held):
            ports.discard(port)
        if port in self._fired:
            self._fired.remove(port)
        while True:
            queued = self._events_read()
            self._fired.extend(self._sift(queued))
            if len(queued) < PORTS_PER_READ:
                break

    # The rest

    def open_store(self, domain: Domain) -> DescriptorConnection:
        """A new connection to xenstored."""
        return DescriptorConnection(connect())

    def close(self) -> None:
        """Unbind every port left, unmap every page left, close the descriptors. Idempotent.

        The ports are unbound one by one: closing the device would do it too, but not while a
        forked child holds it open.
        """
        self._grants.close()
        for port in self._events.ports:
            with contextlib.suppress(XenError):
                self._events.unbind(port)
        self._epoll.close()
        self._events.close()
        self.descriptors.close()

    # How it is done

    def _look(self, timeout: float) -> Ready:
        ready: Ready = []
        for descriptor, happened in self._epoll.poll(timeout, _DESCRIPTORS_AT_ONCE):
            if descriptor == self._device:
                self._readable = True
                continue
            key = self._keys.get(descriptor)
            if key is not None:
                events = 0
                if happened & ~select.EPOLLIN:
                    events |= selectors.EVENT_WRITE
                if happened & ~select.EPOLLOUT:
                    events |= selectors.EVENT_READ
                ready.append((key, events & key.events))
        return ready

    def _read(self) -> Sequence[int]:
        """What the device reports, less what is masked and what is not ours."""
        fired = self._events_read()
        return fired if self._open.issuperset(fired) else self._sift(fired)

    def _events_read(self) -> Sequence[int]:
        try:
            return self._events.read()
        except XenError as error:
            if error.errno != errno.EFBIG:
                raise
            self._events.reset()
            return self._events.ports

    def _sift(self, ports: Iterable[int]) -> list[int]:
        fired = []
        for port in ports:
            if port in self._open:
                fired.append(port)
            elif port in self._masked:
                self._held.add(port)
        return fired

    def _let_go(self, ports: Sequence[int]) -> list[int]:
        """Undo the mask of these ports; the ones that are to be enabled in the device."""
        enable = []
        for port in ports:
            if port in self._masked:
                self._masked.remove(port)
                self._open.add(port)
            if port in self._held:
                self._held.remove(port)
                self._fired.append(port)
            else:
                enable.append(port)
        return enable

    def _opened(self, port: int) -> int:
        self._open.add(port)
        return port
