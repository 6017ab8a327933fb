"""Memory: frames of real bytes, and the instructions that lock the bus.

A frame is a page that several parties may see. Each has views of its own on it: memoryviews in a
plain machine, `Stepped` words in an explored one, which give way before every access, so that any
other vCPU may run between any two.

An atomic instruction is one step though it reads and writes:

    lock.bts(words, index, bit)        set a bit; was it set?
    lock.btr(words, index, bit)        clear a bit; was it set?
    lock.xchg(words, index, value)     exchange a word
    lock.cmpxchg(words, index, old, new)   exchange it if it is `old`; what it was
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from xen_sim.schedule.step import Step

PAGE_SIZE = 4096

BIT = tuple(1 << bit for bit in range(64))
"""A bit's mask by its number in a word."""

Before = Callable[[Step], None]
"""What is told of each step before it is taken."""


class Words(Protocol):
    """Memory as an array of unsigned integers: a load and a store for each index."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Frame:
    """A page of memory. `fields` names what lies in it, for reports."""

    __slots__ = ("_views", "bytes", "name", "number")

    def __init__(self, number: int, name: str = "memory") -> None:
        self.number: int = number
        """Its frame number, by which a guest names it to Xen."""
        self.name: str = name
        self.bytes: bytearray = bytearray(PAGE_SIZE)
        self._views: dict[tuple[int, int, str], Words] = {}

    def plain(self, offset: int, size: int, code: str) -> Words:
        """A view that costs nothing, the same for all who look there. `code` is struct's: `B`, `I`,
        `Q`."""
        words = self._views.get((offset, size, code))
        if words is None:
            words = memoryview(self.bytes)[offset : offset + size].cast(code)  # type: ignore
            self._views[offset, size, code] = words
        return words

    def view(self, field: str, offset: int, size: int, code: str, before: Before | None) -> Words:
        """The bytes from `offset` on as words: plain without `before`, else stepped."""
        words = self.plain(offset, size, code)
        if before is None:
            return words
        return Stepped(words, field, offset, _SIZES[code], before, self.number)


_SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8}


class Stepped:
    """Words that tell `before` of each access."""

    __slots__ = ("_before", "_field", "_frame", "_offset", "_size", "_steps", "words")

    def __init__(
        self, words: Words, field: str, offset: int, size: int, before: Before, frame: int = 0
    ) -> None:
        self.words: Words = words
        self._frame = frame
        self._field = field
        self._offset = offset
        self._size = size
        self._before = before
        self._steps = _steps(field, offset, size, frame)

    def __getitem__(self, index: int) -> int:
        self.step("read", index)
        return self.words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.step("write", index)
        self.words[index] = value

    def step(self, kind: str, index: int) -> None:
        """Give way before an access of this kind."""
        step = self._steps.get((kind, index))
        if step is None:
            offset = self._offset + index * self._size
            step = self._steps[kind, index] = Step(
                kind, self._field, offset, self._size, self._frame
            )
        self._before(step)


@lru_cache(4096)
def _steps(field: str, offset: int, size: int, frame: int) -> dict[tuple[str, int], Step]:
    """The steps on these words that were ever taken, by kind and index: the next run takes the same
    ones."""
    return {}


class Lock:
    """The instructions that lock the bus, on plain words."""

    __slots__ = ()

    def bts(self, words: Words, index: int, bit: int) -> bool:
        """Set a bit; true if it was set."""
        word, mask = words[index], BIT[bit]
        words[index] = word | mask
        return word & mask != 0

    def btr(self, words: Words, index: int, bit: int) -> bool:
        """Clear a bit; true if it was set."""
        word, mask = words[index], BIT[bit]
        words[index] = word & ~mask
        return word & mask != 0

    def xchg(self, words: Words, index: int, value: int) -> int:
        """Put a word in place of another; give the other."""
        word = words[index]
        words[index] = value
        return word

    def cmpxchg(self, words: Words, index: int, old: int, new: int) -> int:
        """Put `new` in the place of `old`, if it is there; give what was."""
        word = words[index]
        if word == old:
            words[index] = new
        return word


class SteppedLock(Lock):
    """The same on stepped words: one step each."""

    __slots__ = ()

    def bts(self, words: Words, index: int, bit: int) -> bool:
        return super().bts(_locked(words, "bts", index), index, bit)

    def btr(self, words: Words, index: int, bit: int) -> bool:
        return super().btr(_locked(words, "btr", index), index, bit)

    def xchg(self, words: Words, index: int, value: int) -> int:
        return super().xchg(_locked(words, "xchg", index), index, value)

    def cmpxchg(self, words: Words, index: int, old: int, new: int) -> int:
        return super().cmpxchg(_locked(words, "cmpxchg", index), index, old, new)


def _locked(words: Words, kind: str, index: int) -> Words:
    """The words beneath, once others have had their chance."""
    assert isinstance(words, Stepped)
    words.step(kind, index)
    return words.words


PLAIN = Lock()
STEPPED = SteppedLock()
