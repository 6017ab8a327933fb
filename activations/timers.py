"""The sleep queue: who wants to be woken, and when.

Times are absolute integer nanoseconds. A heap of plain tuples, because C compares tuples and
stock asyncio's heap calls `TimerHandle.__lt__` in Python; each tuple carries the number of its
making, so that equal deadlines fire in the order in which they were set. A cancelled sleep stays
where it is until it comes to the top, or until half of the heap is cancelled.
"""

from __future__ import annotations

from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf, ldexp

NEVER = 1 << 1100
"""A deadline that does not come, later than any float: `float("inf")` becomes this."""

AGES = 1 << 62
"""146 years. A deadline that is further ahead is not waited for."""

LONGEST_SLEEP = 86_400 * 10**9
"""A day. Xen takes one of 2^50 ns (13 days) for a mistake."""

_COMPACT_FROM = 64
"""Below so many cancelled sleeps, compacting is not worth the walk."""


def nanoseconds(seconds: float) -> int:
    """Seconds as integer nanoseconds: the first whose `time()` is not before `seconds`, so that
    a program that is woken at a deadline and looks at `time()` finds that it has passed. From 4e9
    on, where floats lie further apart than `time()` needs, the first that is not before `seconds`.

    What lies before 0 is 0, infinity is `NEVER`. Raises `ValueError` for NaN, `TypeError` for what
    is not a number.
    """
    if type(seconds) is not float:
        seconds = ldexp(seconds, 0)  # a float; not within the bounds of numpy's short ones
    if 0.0 < seconds < 4e9:
        ns = int(seconds * 1e9)
        while ns / 1e9 < seconds:
            ns += 1
        return ns
    if seconds <= 0:
        return 0
    if seconds == inf:
        return NEVER
    if seconds > 0:
        numerator, denominator = seconds.as_integer_ratio()
        return -(numerator * -(10**9) // denominator)
    raise ValueError(f"{seconds} is not a time: give a number of seconds")


class SleepQueue:
    """Timer handles in the order of their deadlines, ties in the order they were added."""

    __slots__ = ("_cancelled", "_horizon", "_made", "_time_ns", "heap")

    def __init__(self, time_ns: Callable[[], int]) -> None:
        self.heap: list[tuple[int, int, TimerHandle]] = []
        """Empty where no task sleeps: what the idle step looks at first."""
        self._time_ns = time_ns
        self._horizon = 0
        """A time that was once a day ahead, and is no more than that now."""
        self._made = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Sleeps that are still wanted."""
        return len(self.heap) - self._cancelled

    def add(self, deadline: int, handle: TimerHandle) -> None:
        self._made = made = self._made + 1
        heappush(self.heap, (deadline, made, handle))

    def note_cancelled(self) -> None:
        """One of the handles in the queue was cancelled."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self.heap):
            heap = [entry for entry in self.heap if not entry[2].cancelled()]
            heapify(heap)
            self.heap = heap
            self._cancelled = 0

    def clear(self) -> None:
        """Let go of all sleeps, and of what they hold."""
        self.heap.clear()
        self._cancelled = 0

    def next_deadline(self) -> int | None:
        """How long to sleep: until the next wanted sleep ends, or for a day if that is later;
        None if no task sleeps, or for `AGES` only."""
        heap = self.heap
        while heap:
            deadline, _, handle = heap[0]
            if not handle._cancelled:
                return deadline if deadline <= self._horizon else self._beyond(deadline)
            heappop(heap)
            self._cancelled -= 1
        return None

    def _beyond(self, deadline: int) -> int | None:
        now = self._time_ns()
        if deadline - now >= AGES:
            return None
        self._horizon = now + LONGEST_SLEEP
        return min(deadline, self._horizon)

    def wake(self, now: int, ready: deque[Handle]) -> None:
        """Move every sleep that ends at or before `now` to `ready`, in order: once, and not lost,
        wherever an exception out of a signal handler strikes."""
        heap = self.heap
        try:
            while heap and heap[0][0] <= now:
                handle = heap[0][2]
                if handle._cancelled:
                    self._cancelled -= 1
                else:
                    handle._scheduled = False  # type: ignore[attr-defined]
                    ready.append(handle)
                heappop(heap)
        except BaseException:
            while heap and any(handle is heap[0][2] for handle in ready):
                heappop(heap)
            self._cancelled = sum(handle.cancelled() for _, _, handle in heap)
            raise
