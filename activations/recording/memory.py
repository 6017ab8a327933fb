"""Shared pages, read by read: what the peer writes there is taken in as the domain looks.

A `View` looks like the memoryview that it stands for: it is sliced, cast, read and written in the
same way. Every read by index, and every copy of it as bytes, is noted. It is not a buffer, so what
would take its bytes past it (`os.preadv`, `struct.unpack_from`, `hashlib`) is refused by Python
with a `TypeError`: take `bytes(...)` of it.

In a replay the bytes are those that were noted. `known` has what was read and written so far, for
a debugger: a look there is not noted as a read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from activations.lower import GrantedPages
from activations.recording.form import octets, text
from activations.recording.journal import Noting, Reading


class View:
    """Some bytes of pages, or words of them."""

    __slots__ = ("_journal", "_name", "_offset", "_whole", "known", "readonly")

    contiguous = c_contiguous = True

    def __init__(
        self,
        journal: Any,
        name: str,
        whole: memoryview,
        known: memoryview,
        offset: int,
        readonly: bool,
    ) -> None:
        self._journal = journal
        self._name = name
        self._whole = whole
        self.known: memoryview[int] = known
        self._offset = offset
        self.readonly: bool = readonly

    def __repr__(self) -> str:
        return f"<{len(self.known)} of {self.format!r} at {self._offset} of {self._name}>"

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

    def _part(self, index: slice) -> View:
        """A part of it: making it is not a read yet."""
        start, _, step = index.indices(len(self._whole))
        if step != 1:
            raise TypeError("a recorded page is sliced in one piece: take bytes(...) of it")
        offset = self._offset + start * self._whole.itemsize
        return self._of(self._whole[index], self.known[index], offset)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.readonly:
            raise TypeError("cannot modify read-only memory")
        data = bytes(value) if isinstance(value, View) else value
        self._whole[index] = data
        self.known[index] = data

    def __bytes__(self) -> bytes:
        return self._all()

    def tobytes(self) -> bytes:
        return self._all()

    def hex(self) -> str:
        return self._all().hex()

    def __eq__(self, other: object) -> bool:
        return self._all() == other

    def cast(self, code: Any) -> View:
        return self._of(self._whole.cast(code), self.known.cast(code), self._offset)

    def toreadonly(self) -> View:
        view = self._of(self._whole[:], self.known[:], self._offset)
        view.readonly = True
        return view

    def release(self) -> None:
        self._whole.release()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _of(self, whole: memoryview, known: memoryview, offset: int) -> View:
        return type(self)(self._journal, self._name, whole, known, offset, self.readonly)

    def _where(self, index: int) -> int:
        return self._offset + (index % len(self._whole)) * self.itemsize

    def _all(self) -> bytes:
        """All bytes of it: one read."""
        raise NotImplementedError


class Noted(View):
    """In a recording. What is as it was known to be is not noted again."""

    __slots__ = ()
    _journal: Noting

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._part(index)
        value = self._whole[index]
        if self.known[index] == value:
            self._journal.note("read")
        else:
            self.known[index] = value
            self._journal.note(["read", [self._name, self._where(index), self.format], value])
        return value

    def _all(self) -> bytes:
        data = bytes(self._whole)
        if bytes(self.known) == data:
            self._journal.note("read")
        else:
            self.known.cast("B")[:] = data
            self._journal.note(["read", [self._name, self._offset, len(data)], text(data)])
        return data


class Replayed(View):
    """In a replay. Nothing is there but what is known."""

    __slots__ = ()
    _journal: Reading

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._part(index)
        value = self._whole[index]  # raises what it raised: there is no such word
        read = self._journal.read(self._name, self._where(index), self.format)
        if read is None:
            return value
        self.known[index] = read
        return read

    def _all(self) -> bytes:
        size = self._whole.nbytes
        if (said := self._journal.read(self._name, self._offset, size)) is not None:
            self.known.cast("B")[:] = octets(said)
        return bytes(self.known)


def view(
    journal: Noting | Reading, name: str, below: GrantedPages | None, pages: int, writable: bool
) -> View:
    """A view of all of these pages."""
    known = memoryview(bytearray(4096 * pages))
    if isinstance(journal, Reading):
        return Replayed(journal, name, known[:], known, 0, not writable)
    assert below is not None
    return Noted(journal, name, below.memory, known, 0, below.memory.readonly)
