"""Shared pages, read by read: what the peer writes there is taken in as the domain looks.

A `View` looks like the memoryview that it stands for: it is sliced, cast, read and written in the
same way. Every read by index, and every copy of it as bytes, is noted. It is not a buffer, so what
would take its bytes past it (`os.preadv`, `struct.unpack_from`, `hashlib`) is refused by Python
with a `TypeError`: take `bytes(...)` of it.

In a replay the bytes are those that were noted. `known` has what was read and written so far, for
a debugger: a look there is not noted as a read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from activations.lower import GrantedPages
from activations.recording.form import octets, text
from activations.recording.journal import Noting, Reading


class View:
    """Some bytes of pages, or words of them."""

    __slots__ = ("_by", "_name", "_offset", "_whole", "known")

    contiguous = c_contiguous = True

    def __init__(
        self, by: Any, name: str, whole: memoryview, known: memoryview, offset: int
    ) -> None:
        self._by = by
        """What it goes by: in a recording what notes, in a replay the journal."""
        self._name = name
        self._whole = whole
        self.known: memoryview[int] = known
        self._offset = offset

    def __repr__(self) -> str:
        return f"<{len(self.known)} of {self.format!r} at {self._offset} of {self._name}>"

    @property
    def readonly(self) -> bool:
        return self._whole.readonly

    @property
    def nbytes(self) -> int:
        return self._whole.nbytes

    @property
    def itemsize(self) -> int:
        return self._whole.itemsize

    @property
    def format(self) -> str:
        return self._whole.format

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[int]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """A part, or a byte or word: a read."""
        raise NotImplementedError

    def _part(self, index: slice, part: memoryview) -> View:
        """A part of it: making it is not a read yet."""
        whole = self._whole
        start, _, step = index.indices(len(whole))
        if step != 1:
            raise TypeError("a recorded page is sliced in one piece: take bytes(...) of it")
        offset = self._offset + start * whole.itemsize
        return type(self)(self._by, self._name, part, self.known[index], offset)

    def __setitem__(self, index: Any, value: Any) -> None:
        if value.__class__ is self.__class__:
            value = bytes(value)
        self._whole[index] = value  # raises what it raises
        self.known[index] = value

    def tobytes(self) -> bytes:
        """All bytes of it: one read."""
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        return self.tobytes()

    def hex(self) -> str:
        return self.tobytes().hex()

    def __eq__(self, other: object) -> bool:
        return self.tobytes() == other

    def cast(self, code: Any) -> View:
        return self._of(self._whole.cast(code), self.known.cast(code))

    def toreadonly(self) -> View:
        return self._of(self._whole.toreadonly(), self.known[:])

    def release(self) -> None:
        self._whole.release()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _of(self, whole: memoryview, known: memoryview) -> View:
        return type(self)(self._by, self._name, whole, known, self._offset)

    def _where(self, index: int) -> int:
        whole = self._whole
        return self._offset + (index % len(whole)) * whole.itemsize


class Noted(View):
    """In a recording. What is as it was known to be is not noted again. (Events are tuples here: of
    lists, by the thousand, the garbage collector would look at each.)"""

    __slots__ = ()
    _by: Callable[[Any], None]

    def __getitem__(self, index: Any) -> Any:
        value: Any = self._whole[index]
        if index.__class__ is slice:
            return self._part(index, value)
        if self.known[index] == value:
            self._by("read")
        else:
            self.known[index] = value
            self._by(("read", (self._name, self._where(index), self._whole.format), value))
        return value

    def tobytes(self) -> bytes:
        data, known = self._whole.tobytes(), self.known
        if known.tobytes() == data:
            self._by("read")
        else:
            (known if known.itemsize == 1 else known.cast("B"))[:] = data
            self._by(("read", (self._name, self._offset, len(data)), text(data)))
        return data


class Replayed(View):
    """In a replay. Nothing is there but what is known."""

    __slots__ = ()
    _by: Reading

    def __getitem__(self, index: Any) -> Any:
        value: Any = self._whole[index]  # raises what it raised: there is no such word
        if index.__class__ is slice:
            return self._part(index, value)
        read = self._by.read(self._name, self._where(index), self.format)
        if read is None:
            return value
        self.known[index] = read
        return read

    def tobytes(self) -> bytes:
        size = self._whole.nbytes
        if (said := self._by.read(self._name, self._offset, size)) is not None:
            self.known.cast("B")[:] = octets(said)
        return bytes(self.known)


def view(
    journal: Noting | Reading, name: str, below: GrantedPages | None, pages: int, writable: bool
) -> View:
    """A view of all of these pages."""
    known = memoryview(bytearray(4096 * pages))
    if isinstance(journal, Reading):
        return Replayed(journal, name, known[:] if writable else known.toreadonly(), known, 0)
    assert below is not None
    return Noted(journal.note, name, below.memory, known, 0)
