"""struct shared_info: a page of real bytes that Xen and its guest both act on.

Each side has views of its own on the page. A plain run uses memoryviews, and pays nothing. In an
explored one each view is a `Watched`: before every access it gives up the processor, so that any
other vCPU may run between any two.

An atomic instruction (`lock bts`, `xchg`) is one step though it reads and writes. It is written

    word = pending[i]                   the step: here another vCPU may run first
    locked.pending[i] = word | bit      the same step: nobody comes in between

where `locked` always holds plain memoryviews.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from activations.abi import event_channel as abi


class Words(Protocol):
    """Shared memory as an array of unsigned integers."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Watched:
    """Words that tell `step` before each access."""

    __slots__ = ("_name", "_step", "_words")

    def __init__(self, words: Words, name: str, step: Callable[[str], None]) -> None:
        self._words = words
        self._name = name
        self._step = step

    def __getitem__(self, index: int) -> int:
        self._step(f"read {self._name}")
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._step(f"write {self._name}")
        self._words[index] = value


class Views:
    """The parts of shared_info that events need, for vCPU 0."""

    __slots__ = ("locked", "mask", "pending", "pending_sel", "upcall_pending")

    def __init__(self, page: bytearray, step: Callable[[str], None] | None = None) -> None:
        def view(name: str, offset: int, size: int, code: str) -> Words:
            words: Words = memoryview(page)[offset : offset + size].cast(code)  # type: ignore
            return Watched(words, name, step) if step else words

        self.upcall_pending = view("evtchn_upcall_pending", abi.UPCALL_PENDING, 1, "B")
        self.pending_sel = view("evtchn_pending_sel", abi.PENDING_SEL, 8, "Q")
        self.pending = view("evtchn_pending", abi.EVTCHN_PENDING, 512, "Q")
        self.mask = view("evtchn_mask", abi.EVTCHN_MASK, 512, "Q")
        self.locked: Views = Views(page) if step else self
        """The second half of an atomic instruction: never a step of its own."""


BIT = tuple(1 << bit for bit in range(abi.BITS_PER_WORD))
