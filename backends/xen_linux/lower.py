"""The lower half over Linux's devices.

One epoll serves the event device and every descriptor that asyncio registers. A turn in which
ports fire costs at most three system calls, however many ports: epoll_wait, a read that takes all
of them, a write that lets all of them fire again. Often it costs two (see `guess`).

The write is put off to the beginning of the next idle step. Nothing is late for it, since the ring
is read there and nowhere else. And what a peer sends meanwhile stays with Xen, which makes one
event of it: from an enabled port the device takes the first event at once, Xen keeps a second
behind it, and a burst is delivered twice.

The device has no mask. A port that was read stays disabled until it is written back, so masking
is keeping: a masked port that is read is held, neither reported nor written back, and unmasking
reports it once.

Numbers are reused: Xen hands out the lowest free one. Unbinding a port leaves its entry in the
device's ring, and the next port of this number must not find it there. So the ring is read empty
right after every unbind: no new entry of that port can follow, and the ones of others are kept
for the next demux.

Python may raise an exception out of a signal handler anywhere in here, right after a read too, when
what was read is unknown. Then every port may have fired, and is reported: for nothing, most of
them, as after an overflow.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
from collections.abc import Callable, Iterable, Sequence

from activations.abi.linux_evtchn import PORTS_PER_READ
from activations.errors import XenError
from activations.lower import Adopt, Clock, GrantTable, Ready, monotonic_ns
from activations.store.descriptor import DescriptorConnection
from xen_linux.evtchn import EventDevice
from xen_linux.grants import LinuxGrantTable
from xen_linux.guess import Guess
from xen_linux.identity import identify
from xen_linux.resume import Resumes
from xen_linux.store import open_connection

LONGEST_BLOCK = 86_400.0
"""Seconds. No block is longer than a day, as in every lower half."""

_NS = 1e-9
_DESCRIPTORS_AT_ONCE = 256


class LinuxLowerHalf:
    """The lower half of the domain this process runs in. Times are those of CLOCK_MONOTONIC.

    `block` is as precise as epoll: it ends up to a millisecond after the deadline, never before.
    """

    clock: Clock = "wall"
    time_ns: staticmethod[[], int] = staticmethod(monotonic_ns)

    def __init__(
        self,
        domid: int,
        name: str,
        events: EventDevice,
        grant_table: LinuxGrantTable,
        resumes: Resumes | None = None,
    ) -> None:
        self.domid: int = domid
        self.name = name
        self.grant_table: GrantTable = grant_table
        self._grants = grant_table
        self.descriptors: selectors.BaseSelector = selectors.EpollSelector()
        self._keys = self.descriptors.get_map()
        # A second descriptor of the selector's own epoll: the event device joins it without
        # becoming one of asyncio's keys.
        self._epoll = select.epoll.fromfd(os.dup(self.descriptors.fileno()))
        self._resumes = resumes
        if resumes is not None:
            self._epoll.register(resumes, select.EPOLLIN)
        self.resumed: Callable[[], object] = lambda: None
        """Called when the domain was suspended and resumed, and nothing of before is bound here."""
        self._epoll.register(events, select.EPOLLIN)
        self._events = events
        self._device = events.fileno()
        self._readable = False
        self._told = False
        """Whether a descriptor was ready: it may be word of a resume, or what follows from one."""
        self._ended = False
        """Whether the domain was resumed, and what that ends is not put away yet."""
        self._guess = Guess()
        self._open: set[int] = set()
        """Ports whose events are reported: bound and not masked."""
        self._masked: set[int] = set()
        self._held: set[int] = set()
        """Masked ports that fired: reported when they are unmasked."""
        self._fired: list[int] = []
        """Ports to report at the next demux, already read."""
        self._taken: Sequence[int] = ()
        """Ports that were reported and are not unmasked yet."""
        self._owed: Sequence[int] = ()
        """Ports to write back when the next idle step begins."""

    # The idle step

    def block(self, deadline: int | None) -> Ready:
        """Wait for an event, a descriptor, or the deadline (ns); say which descriptors are
        ready."""
        if self._owed:
            self._enable()
        if self._fired or self._taken:
            return self._look(0)
        if self._guess.worth_it() and self._read_first():
            return []
        if deadline is None:
            return self._look(LONGEST_BLOCK)
        left = (deadline - self.time_ns()) * _NS
        return self._look(min(max(left, 0), LONGEST_BLOCK))

    def poll(self) -> Ready:
        """Say which descriptors are ready, and look at the event device."""
        if self._owed:
            self._enable()
        return self._look(0)

    def demux(self) -> Sequence[int]:
        """The ports that fired, each disabled until `unmask`; at most 1,024 of the device's.

        A ring that overflowed has lost events. Every port may have fired, so every port is
        reported: a spurious event is harmless, a lost one is not.
        """
        try:
            if self._told:
                self._told = False
                self._follow()
            if self._readable:
                self._readable = False
                self._taken = [*self._taken, *self._read()] if self._taken else self._read()
            if self._fired:
                # What was held and what Xen kept behind it are one event.
                self._taken = list(dict.fromkeys((*self._fired, *self._taken)))
                self._fired.clear()
        except BaseException:
            self._anything_may_have_fired()
            raise
        return self._taken

    def unmask(self, ports: Sequence[int]) -> None:
        """Let ports fire again. One that fired while it was masked is reported at once."""
        if self._masked:
            self._let_go(ports)
        self._owed = [*self._owed, *ports] if self._owed else ports
        if ports is self._taken:
            self._taken = ()

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
        self._follow()
        return self._opened(self._events.bind_unbound_port(remote_domid))

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """A new port connected to one of another domain. It fires once at once, as Xen has it."""
        self._follow()
        return self._opened(self._events.bind_interdomain(remote_domid, remote_port))

    def bind_virq(self, virq: int) -> int:
        """A new port for a virtual interrupt."""
        self._follow()
        return self._opened(self._events.bind_virq(virq))

    def close_port(self, port: int) -> None:
        """Unbind a port; its number is clean for the next port that gets it. One that went with a
        suspend is closed already."""
        if self._follow():
            return
        self._events.unbind(port)
        for ports in (self._open, self._masked, self._held):
            ports.discard(port)
        if port in self._fired:
            self._fired.remove(port)
        self._owed = [owed for owed in self._owed if owed != port]
        self._taken = [taken for taken in self._taken if taken != port]
        try:
            while True:
                queued = self._events_read()
                self._fired.extend(self._sift(queued))
                if len(queued) < PORTS_PER_READ:
                    break
        except BaseException:
            self._anything_may_have_fired()
            raise

    # xenstore, and the end

    def open_store(self, adopt: Adopt) -> DescriptorConnection:
        """A new connection to xenstored."""
        return open_connection()

    def close(self) -> None:
        """Unbind every port left, unmap every page left, close the descriptors. Idempotent.

        The ports are unbound one by one: closing the device would do it too, but not while a
        forked child holds it open.
        """
        self._grants.close()
        self._follow()
        for port in self._events.ports:
            with contextlib.suppress(XenError):
                self._events.unbind(port)
        self._epoll.close()
        self._events.close()
        if self._resumes is not None:
            self._resumes.close()
            self._resumes = None
        self.descriptors.close()

    # Its device: resumed, enabled, read

    def _follow(self) -> bool:
        """Begin anew if the domain was resumed; whether it was. Before every call that has the
        driver look for a port: see `EventDevice.renewed`."""
        if self._resumes is None or not (self._ended or self._resumes.happened()):
            return False
        self._ended = True
        with contextlib.suppress(FileNotFoundError):  # an exception struck in here, and it is gone
            self._epoll.unregister(self._events)
        self._events = self._events.renewed()
        self._epoll.register(self._events, select.EPOLLIN)
        self._device = self._events.fileno()
        self._readable = False
        for ports in (self._open, self._masked, self._held):
            ports.clear()
        self._fired.clear()
        self._taken = self._owed = ()
        self.domid = identify().domid
        self._ended = False
        self.resumed()
        return True

    def _enable(self) -> None:
        self._events.enable(self._owed)
        self._owed = ()

    def _read_first(self) -> bool:
        """Read without asking epoll whether there is anything; whether there was. Nothing else
        was taken before it, so the demux gives it as it is."""
        try:
            self._taken = fired = self._read()
        except BaseException:
            self._anything_may_have_fired()
            raise
        found = bool(fired)
        self._guess.was(found)
        return found

    def _look(self, timeout: float) -> Ready:
        ready: Ready = []
        for descriptor, happened in self._epoll.poll(timeout, _DESCRIPTORS_AT_ONCE):
            if descriptor == self._device:
                self._readable = True
                continue
            self._told = self._resumes is not None
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

    def _anything_may_have_fired(self) -> None:
        """What was read is lost: report every port, and hold every masked one."""
        self._fired = list(self._open)
        self._held |= self._masked

    def _sift(self, ports: Iterable[int]) -> list[int]:
        fired = []
        for port in ports:
            if port in self._open:
                fired.append(port)
            elif port in self._masked:
                self._held.add(port)
        return fired

    def _let_go(self, ports: Sequence[int]) -> None:
        """Undo the mask of these ports. One that was held is reported at the next demux, and
        enabled at once, so that what Xen kept behind it is read by then and reported with it."""
        unmasked = self._masked.intersection(ports)
        self._masked -= unmasked
        self._open |= unmasked
        held = self._held & unmasked
        self._held -= held
        if held:
            self._fired.extend(held)
            self._events.enable(tuple(held))

    def _opened(self, port: int) -> int:
        self._open.add(port)
        return port
