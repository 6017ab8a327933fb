"""The two clocks of a simulation, and the calendar of what happens when.

The virtual clock stands still while anything runs and jumps to the calendar's next entry when
nothing does. Time that stands still could stand for ever, with two domains that keep each other
busy while a third sleeps: so from `PATIENCE` turns at one instant on, every turn costs `TURN_NS`.
A program that rests now and then never notices.

The wall clock is the machine's own. Between entries it waits in one epoll that holds the epolls
of all domains, so that a descriptor wakes the domain it belongs to.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

from activations.errors import BlockedForever
from activations.lower import Clock as ClockName
from activations.lower import monotonic_ns
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

PATIENCE = 1000
"""Turns that are free at one instant of the virtual clock."""

TURN_NS = 1000
"""What each further turn costs, in virtual nanoseconds."""

LONGEST_WAIT = 86_400
"""Seconds, a day: epoll counts milliseconds in 31 bits."""

_COMPACT_FROM = 64
"""Below so many entries that were struck out, compacting is not worth the walk."""

Entry = tuple[int, int, Callable[[], None], str]
"""Something that will happen: when (ns), the number of its making, what, and a name for it."""


class Calendar:
    """What happens next. Entries at the same instant happen in the order of their making, or in
    the one that a tape says.

    A heap, from which an entry that was struck out or has happened goes when it comes to the top,
    or when half of the heap is such. What an exception out of a signal handler breaks off while it
    happens is entered again, and so may happen twice.
    """

    def __init__(self, tape: Tape | None = None) -> None:
        self.heap: list[Entry] = []
        """Nothing happens before the time of the first, which may have been struck out."""
        self._valid: set[int] = set()
        """The numbers of entries that still count."""
        self._made = 0
        self._tape = tape

    def add(self, when: int, what: Callable[[], None], name: str = "") -> Entry:
        self._made += 1
        entry = (when, self._made, what, name)
        self._valid.add(self._made)
        heappush(self.heap, entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Strike an entry out; one that has happened is ignored."""
        self._valid.discard(entry[1])
        if len(self.heap) > _COMPACT_FROM + 2 * len(self._valid):
            self._enter_anew()

    def next_time(self) -> int | None:
        heap = self.heap
        while heap and heap[0][1] not in self._valid:
            heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self, now: int) -> None:
        """Let everything happen that is due."""
        while (when := self.next_time()) is not None and when <= now:
            entry = self.heap[0] if self._tape is None else self._first(self._tape)
            try:
                self._valid.discard(entry[1])
                entry[2]()
            except BaseException:
                self._valid.add(entry[1])
                self._enter_anew(entry)
                raise

    def _first(self, tape: Tape) -> Entry:
        """The one that happens first, if several do at one instant. (Then one of the two behind the
        top of the heap has that time too.)"""
        heap = self.heap
        when = heap[0][0]
        if all(entry[0] != when for entry in heap[1:3]):
            return heap[0]
        entries = sorted(entry for entry in heap if entry[0] == when and entry[1] in self._valid)
        if len(entries) == 1:
            return heap[0]
        names = tuple(entry[3] for entry in entries)
        return entries[tape.choose(Choice(f"first at {when} ns", names))]

    def _enter_anew(self, *missing: Entry) -> None:
        heap = [entry for entry in {*self.heap, *missing} if entry[1] in self._valid]
        heapify(heap)
        self.heap = heap


class Clock(Protocol):
    """What passes time."""

    name: ClockName
    patience: int
    """How many turns in a row the processor may give away before it calls `look_up`."""

    def time_ns(self) -> int: ...

    def look_up(self) -> None:
        """Everybody is busy: let happen what happens all the same."""

    def idle(self) -> None:
        """No fiber can run: let the next thing happen. `BlockedForever` if there is none."""

    def skip_to(self, when: int) -> bool:
        """No fiber can run, and one asks to be woken at `when`: if nothing happens before, nor
        at the same instant, it is then. False where that is not so."""


class VirtualClock:
    """Stands still while anything runs, jumps when nothing does."""

    name: ClockName = "virtual"
    patience = PATIENCE

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self.now: int = 0

    def time_ns(self) -> int:
        return self.now

    def look_up(self) -> None:
        self.now += TURN_NS
        heap = self._calendar.heap
        if heap and heap[0][0] <= self.now:
            self._calendar.run_due(self.now)

    def idle(self) -> None:
        when = self._calendar.next_time()
        if when is None:
            raise BlockedForever("nothing can ever happen again")
        if when > self.now:
            self.now = when
        self._calendar.run_due(self.now)

    def skip_to(self, when: int) -> bool:
        heap = self._calendar.heap
        if heap and heap[0][0] <= when:
            following = self._calendar.next_time()
            if following is not None and following <= when:
                return False
        if when > self.now:
            self.now = when
        return True


class WallClock:
    """The machine's monotonic clock, and everything real that can wake a domain."""

    name: ClockName = "wall"
    patience = 0
    time_ns: staticmethod[[], int] = staticmethod(monotonic_ns)

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._epoll: select.epoll
        """Open as long as anything is watched."""
        self._sleepers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, wake: Callable[[], None]) -> None:
        """Call `wake` whenever this descriptor is readable and somebody looks."""
        if not self._sleepers:
            self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)
        self._sleepers[fd] = wake

    def unwatch(self, fd: int) -> None:
        """No more; to be said before the descriptor is closed."""
        del self._sleepers[fd]
        self._epoll.unregister(fd)
        if not self._sleepers:
            self._epoll.close()

    def look_up(self) -> None:
        self._look(0)

    def idle(self) -> None:
        when = self._calendar.next_time()
        if when is None:
            self._look(LONGEST_WAIT)
        else:
            self._look(min(max(when - self.time_ns(), 0) / 1e9, LONGEST_WAIT))

    def skip_to(self, when: int) -> bool:
        """Real time does not skip."""
        return False

    def _look(self, timeout: float) -> None:
        for fd, _ in self._epoll.poll(timeout):
            if wake := self._sleepers.get(fd):
                wake()
        self._calendar.run_due(self.time_ns())
