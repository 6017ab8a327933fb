"""Whether to read the event device before asking epoll if there is anything in it.

When the peer answers at once, its event is there by the time the loop would block, and epoll_wait
is a system call for nothing: without it a round trip between two tasks took 0.84 to 0.92 of the
time in a PV domain, 0.83 to 0.88 in a PVH one. When it is not there, the read is for nothing.

The past is the best guess at the future: every miss in a row doubles the number of blocks until
the next try, up to 63 in between, so that a loop whose events come slowly loses little.
"""

from __future__ import annotations

TURNS_WITHOUT_EPOLL = 7
"""So many turns in a row may find events without a look at the other descriptors."""

_MOST_MISSES = 6


class Guess:
    """One loop's guesses. Ask `worth_it` once a block; where it says yes, tell `was`."""

    __slots__ = ("_hits", "_misses", "_skip")

    def __init__(self) -> None:
        self._hits = 0
        self._misses = 0
        self._skip = 0

    def worth_it(self) -> bool:
        """Whether to read first, this time."""
        if self._skip:
            self._skip -= 1
            return False
        if self._hits < TURNS_WITHOUT_EPOLL:
            return True
        self._hits = 0
        return False

    def was(self, right: bool) -> None:
        """Whether the read found anything."""
        if right:
            self._hits += 1
            self._misses = 0
        else:
            self._hits = 0
            self._misses = min(self._misses + 1, _MOST_MISSES)
            self._skip = (1 << self._misses) - 1
