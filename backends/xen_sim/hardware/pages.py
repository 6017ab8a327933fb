"""Pages of shared memory as a driver sees them in an explored machine.

`SteppedBytes` looks like the memoryview that a plain machine gives: it is sliced, cast, read and
written in the same way, and it is a buffer. Every access by index or slice is a step, so rings,
vchan and drivers of a user's own are explored by the accesses that they make anyway. What takes it
as a buffer (`os.preadv`, `hashlib`) accesses it as a device would: in one piece, and no step.

It is a ctypes array, since no class written in Python can be a buffer before Python 3.12. There one
thing is refused that a memoryview allows: to be assigned to a slice of another memoryview, which
does not take ctypes' format for its own. `bytes(...)` of it can be.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from xen_sim.hardware.memory import Before, Stepped
from xen_sim.schedule.step import Step


class SteppedBytes:
    """Bytes that tell `before` of each access. Made by `stepped`."""

    _before: Before
    _name: str
    whole: memoryview
    """The bytes themselves."""
    _offset: int
    readonly: bool
    itemsize = 1
    format = "B"
    contiguous = c_contiguous = True

    @property
    def nbytes(self) -> int:
        return len(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, stride = index.indices(len(self.whole))
            if stride != 1:
                return self.whole[index]
            return _view(self, start, max(start, stop))
        self._step("read", index, 1)
        return self.whole[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.readonly:
            raise TypeError("cannot modify read-only memory")
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self.whole))
            data = bytes(value)
            self._step("write", start, max(stop - start, 0))
            self.whole[index] = data
        else:
            self._step("write", index, 1)
            self.whole[index] = value

    def __buffer__(self, flags: int) -> memoryview:
        return self.whole.toreadonly() if self.readonly else self.whole

    def __bytes__(self) -> bytes:
        self._step("read", 0, len(self.whole))
        return bytes(self.whole)

    def tobytes(self) -> bytes:
        return bytes(self)

    def __eq__(self, other: object) -> bool:
        return bytes(self) == other

    def cast(self, code: str) -> Any:
        """The same memory as words: a load or a store of one is one step."""
        if code == "B":
            return self
        words: Any = self.whole.cast(code)  # type: ignore[call-overload]
        if self.readonly:
            words = words.toreadonly()
        return SteppedWords(words, self._name, self._offset, words.itemsize, self._before)

    def toreadonly(self) -> Any:
        return _view(self, 0, len(self.whole), readonly=True)

    def release(self) -> None:
        """Views of simulated memory need not be given up."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _step(self, kind: str, start: int, size: int) -> None:
        self._before(Step(kind, self._name, self._offset + start, size))


class SteppedWords(Stepped):
    """Words of a `SteppedBytes`, with what a memoryview has besides."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.words)  # type: ignore[arg-type]

    def release(self) -> None:
        """Views of simulated memory need not be given up."""

    def __enter__(self) -> SteppedWords:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


@cache
def _array(size: int) -> Any:
    """The class of a view of so many bytes."""
    import ctypes  # late: a plain machine has no use for it

    layout = {"_type_": ctypes.c_ubyte, "_length_": size}
    return type("SteppedBytes", (SteppedBytes, ctypes.Array), layout)


def stepped(memory: memoryview, name: str, before: Before, *, readonly: bool = False) -> Any:
    """A stepped view of writable memory."""
    return _make(memory, name, 0, before, readonly)


def _view(of: SteppedBytes, start: int, stop: int, *, readonly: bool = False) -> Any:
    """A part of a view: making it is not an access yet."""
    part = of.whole[start:stop]
    return _make(part, of._name, of._offset + start, of._before, of.readonly or readonly)


def _make(memory: memoryview, name: str, offset: int, before: Before, readonly: bool) -> Any:
    made = _array(len(memory)).from_buffer(memory)
    made.whole, made._name, made._offset = memory, name, offset
    made._before, made.readonly = before, readonly
    return made
