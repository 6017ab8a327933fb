"""A port: one end of an event channel, as a coroutine sees it.

The hazard is the lost wake-up, and the two ways of waiting differ in how they meet it:

`wait()`        the port's own memory. An event that came since the last `wait()` returned is
                kept, so that code which looks at shared memory between two waits misses nothing.
                However many came, one is kept: Xen coalesces them too.
`after(event)`  the caller's memory (Mirage's counter). Each of several independent waiters
                passes the number it last saw, beginning with `PROGRAM_START`, and none of them
                can take an event from another.

The counter counts deliveries, not sends. A port has one waiter nearly always; each waiter has a
future of its own, so that cancelling one leaves the others alone.
"""

from __future__ import annotations

from asyncio import CancelledError, Future
from typing import TYPE_CHECKING, NamedTuple

from activations.errors import PortClosed, PortError

if TYPE_CHECKING:
    from activations.events import Events

PROGRAM_START = 0
"""The event before every event: `after(PROGRAM_START)` returns at the first one."""


class PortStatistics(NamedTuple):
    """What a port has seen. `last_ns` is on the loop's clock, None before the first event."""

    fired: int
    """Deliveries: the counter of `after`."""
    woken: int
    """Waits that a delivery ended."""
    coalesced: int
    """Deliveries that found an earlier one not yet waited for."""
    last_ns: int | None


class Port:
    """A bound event channel. Made by `Domain.events`, which owns it; closed with `close()`, by
    leaving `with port:`, or at the latest with its domain."""

    __slots__ = (
        "_coalesced",
        "_count",
        "_end",
        "_events",
        "_last",
        "_loop",
        "_seen",
        "_send",
        "_waiters",
        "_woken",
        "number",
        "remote",
    )

    def __init__(self, events: Events, number: int, remote: str) -> None:
        self._events = events
        self._loop = events.loop()
        self._send = events.lower.notify
        self.number: int = number
        """The local port number."""
        self.remote: str = remote
        """What the other end is, in words: `domain 3, port 7`."""
        self._count = self._seen = PROGRAM_START
        self._waiters: dict[Future[None], None] = {}
        self._end: PortError | None = None
        self._woken = self._coalesced = 0
        self._last: int | None = None

    def __repr__(self) -> str:
        state = "closed" if self._end else f"fired {self._count}"
        return f"<Port {self.number} to {self.remote}: {state}>"

    @property
    def closed(self) -> bool:
        """Whether it is closed, by `close` or from outside."""
        return self._end is not None

    def statistics(self) -> PortStatistics:
        """What it counted since it was made."""
        return PortStatistics(self._count, self._woken, self._coalesced, self._last)

    # Waiting

    async def wait(self) -> int:
        """Wait for an event that no earlier `wait()` has returned for; give its number.

        Returns without suspending if one is already there. Raises `PortClosed` if the port is
        or gets closed, `GenerationEnded` if the domain was suspended.
        """
        if self._seen == self._count:
            waiter = self.next_event()
            try:
                await waiter
            except CancelledError:
                self._waiters.pop(waiter, None)
                raise
        self._seen = count = self._count
        return count

    async def after(self, event: int) -> int:
        """Wait until the counter is past `event`; give the counter. Raises as `wait()` does."""
        while self._count <= event or self._end:
            waiter = self.next_event()
            try:
                await waiter
            except CancelledError:
                self._waiters.pop(waiter, None)
                raise
        return self._count

    def __aiter__(self) -> Port:
        """`async for event in port`: as `wait()`, over and over."""
        return self

    __anext__ = wait

    def next_event(self) -> Future[None]:
        """A future that the next delivery completes, or the port's end fails: for a caller that is
        not a task.

        `wait` and `after` await it by themselves, since a coroutine in between would cost each of
        many waiters a tenth of its wake-up. Raises as `wait()` does.
        """
        if self._end:
            raise self._end.with_traceback(None)
        waiter: Future[None] = Future(loop=self._loop)
        self._waiters[waiter] = None
        return waiter

    # Acting

    def notify(self) -> None:
        """Send an event to the other end. No error if there is none: Xen drops it.

        Raises `PortClosed` on a closed port, `XenError` if Xen refuses.
        """
        if self._end:
            raise self._end.with_traceback(None)
        self._send(self.number)

    def mask(self) -> None:
        """Hold deliveries back; one of those that come meanwhile is kept."""
        self._check_open()
        self._events.lower.mask(self.number)

    def unmask(self) -> None:
        """Let deliveries through again; if one was held back it comes now, once."""
        self._check_open()
        self._events.lower.unmask((self.number,))

    def close(self) -> None:
        """Unbind the port and wake its waiters with `PortClosed`. Closing twice is harmless."""
        if not self._end:
            self._events.close(self)

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._end:
            raise self._end.with_traceback(None)

    # What the idle step and the owner do

    def _fire(self, now: int) -> None:
        """An event was delivered: count it, and let every waiter run this turn. (Broken off by an
        exception out of a signal handler, it is delivered again, before anybody runs.)"""
        waiters = self._waiters
        if waiters:
            for waiter in waiters:
                if not waiter.done():  # it is, if cancelled in this very turn
                    waiter.set_result(None)
            self._waiters = {}
            self._woken += len(waiters)
        elif self._count != self._seen:
            self._coalesced += 1
        self._count += 1
        self._last = now

    def _finish(self, error: PortError | None = None) -> None:
        """No event will come any more: every waiter, now and later, is told why."""
        self._end = error or PortClosed(f"port {self.number} (to {self.remote}) was closed")
        self._seen = self._count
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(type(self._end)(*self._end.args))
                waiter.exception()  # no complaint if who waited was struck down meanwhile
