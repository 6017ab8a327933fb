"""What the two halves of a ping or a flood tell each other besides events: a few words of memory.

An event says that something happened, and not how often. So each channel has a line with four
counters, and each is written by one half alone:

    sent      the caller: events sent, counted before each is
    seen      the other half: what `sent` was when it last looked
    fired     the other half: events that came
    answered  the other half: events sent back

The last event of a channel was not lost if in the end `seen` is `sent`; what was sent and did not
come by itself was coalesced, as Xen's pending bit does it. Between domains the board is granted
pages; within one it is plain memory.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any

PAGE = 4096
HEADER = Struct("<IIBBBB")
LINE = Struct("<IIIII")
"""The caller's port, and the counters."""
COUNTER = Struct("I")
"""Native, so that Python copies all four bytes at once: the other half never sees half a number."""
MOST = 1 << 32
"""Counters go round."""
_KIND, _CHANNELS, _READY, _DONE, _HERE = 0, 4, 8, 9, 10
_PORT, _SENT, _SEEN, _FIRED, _ANSWERED = 0, 4, 8, 12, 16


class Kind(IntEnum):
    """What the other half is to do with an event."""

    ECHO = 1
    """Send one back."""
    COUNT = 2


class Board:
    """A view of memory that both halves see. `memory` can be a grant's, and is kept as it is: a
    slice of it would keep the grant from being closed."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    @staticmethod
    def pages(channels: int) -> int:
        """How many pages so many channels need."""
        return -(-(HEADER.size + channels * LINE.size) // PAGE)

    def begin(self, kind: Kind, ports: list[int]) -> None:
        """The caller writes what is to be done, and its ports."""
        HEADER.pack_into(self._memory, 0, kind, len(ports), 0, 0, 1, 0)
        for index, port in enumerate(ports):
            LINE.pack_into(self._memory, self._line(index), port, 0, 0, 0, 0)

    @property
    def kind(self) -> int:
        return self._get(_KIND)

    @property
    def channels(self) -> int:
        return self._get(_CHANNELS)

    def port(self, index: int) -> int:
        """The caller's port of a channel."""
        return self._get(self._line(index) + _PORT)

    @property
    def ready(self) -> bool:
        """The other half has bound every channel, and listens."""
        return bool(self._memory[_READY])

    def is_ready(self) -> None:
        self._memory[_READY] = 1

    @property
    def done(self) -> bool:
        """The caller sends nothing more."""
        return bool(self._memory[_DONE])

    def is_done(self) -> None:
        self._memory[_DONE] = 1

    HERE = _HERE
    """The byte that is cleared as the other half goes, however it does."""

    @property
    def here(self) -> bool:
        return bool(self._memory[_HERE])

    def count_sent(self, index: int) -> int:
        """One more; how many that makes."""
        return self._add(index, _SENT)

    def count_answered(self, index: int) -> None:
        self._add(index, _ANSWERED)

    def note(self, index: int, seen: int, fired: int) -> None:
        """The other half has looked."""
        at = self._line(index)
        COUNTER.pack_into(self._memory, at + _FIRED, fired % MOST)
        COUNTER.pack_into(self._memory, at + _SEEN, seen)

    def sent(self, index: int) -> int:
        return self._get(self._line(index) + _SENT)

    def seen(self, index: int) -> int:
        return self._get(self._line(index) + _SEEN)

    def fired(self, index: int) -> int:
        return self._get(self._line(index) + _FIRED)

    def answered(self, index: int) -> int:
        return self._get(self._line(index) + _ANSWERED)

    def _add(self, index: int, field: int) -> int:
        at = self._line(index) + field
        number = (self._get(at) + 1) % MOST
        COUNTER.pack_into(self._memory, at, number)
        return number

    def _get(self, at: int) -> int:
        number: int = COUNTER.unpack_from(self._memory, at)[0]
        return number

    @staticmethod
    def _line(index: int) -> int:
        return HEADER.size + index * LINE.size
