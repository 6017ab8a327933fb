"""What a back end serves: the protocol of a disk, and disks of memory and of Python objects.

A disk works on buffers that are mostly the front end's own pages: it reads into them and writes
from them, and nothing is copied in between. Each operation is done when it returns None, or else
once what it returned has been awaited; so a disk that has its data at hand costs no task, and one
that has to wait does not hold others up. When the front end goes, coroutines are cancelled and
futures are waited for: behind a future may be a thread, which cannot be stopped.

A write may be lost in a power cut until a flush that began after it has ended. Operations that are
not done yet may be done in any order.

See `file` for disks on files and block devices, `volatile` for one that loses its power.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from errno import EIO, EROFS
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, cast

from activations.abi.blkif import SECTOR_SIZE

AT_ONCE = 1 << 20
"""Bytes that are written in memory before others may run: as long as the largest request."""

Done: TypeAlias = Awaitable[None] | None
"""None: it is done already."""
Buffers: TypeAlias = Sequence[memoryview]
"""Bytes in order, in pieces; not to be used after the operation is done."""


class ServedDisk(Protocol):
    """Offsets and lengths are bytes, multiples of `sector_size`, and within the disk.

    Operations raise `OSError`, or what they return does: the front end's request then fails, with
    `EOPNOTSUPP` as one that this disk does not know.
    """

    @property
    def sectors(self) -> int:
        """Its size in sectors of 512 bytes, whatever `sector_size` is."""

    @property
    def sector_size(self) -> int:
        """Bytes that are read and written as one: 512 or 4096."""

    @property
    def read_only(self) -> bool:
        """Whether writes and discards are refused before they come here."""

    @property
    def discard_granularity(self) -> int:
        """Bytes; 0 where discards are not offered."""

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        """Fill the buffers with what lies at `offset`."""

    def write(self, offset: int, buffers: Buffers) -> Done:
        """Put what the buffers hold at `offset`."""

    def flush(self) -> Done:
        """Make every write that was done safe from a power cut."""

    def discard(self, offset: int, length: int) -> Done:
        """These bytes are no longer needed."""


class MemoryDisk:
    """A disk in memory: of zeroes, `size` bytes of them, or of the bytes given, which are copied.

    A length that is not a multiple of 512 is filled up with zeroes.
    """

    sector_size = SECTOR_SIZE
    discard_granularity = SECTOR_SIZE

    def __init__(self, content: int | bytes | bytearray, *, read_only: bool = False) -> None:
        self.data: bytearray = bytearray(content)
        self.data += bytes(-len(self.data) % SECTOR_SIZE)
        self.sectors: int = len(self.data) // SECTOR_SIZE
        self.read_only = read_only

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        with memoryview(self.data) as data:
            for buffer in buffers:
                end = offset + len(buffer)
                buffer[:] = data[offset:end]
                offset = end
        return None

    def write(self, offset: int, buffers: Buffers) -> Done:
        for buffer in buffers:
            end = offset + len(buffer)
            self.data[offset:end] = buffer
            offset = end
        return None

    def flush(self) -> Done:
        return None

    def discard(self, offset: int, length: int) -> Done:
        if length > AT_ONCE:  # all of a large disk, say
            return self._discard_by_and_by(offset, offset + length)
        self.data[offset : offset + length] = bytes(length)
        return None

    async def _discard_by_and_by(self, offset: int, end: int) -> None:
        zeroes = bytes(AT_ONCE)
        for start in range(offset, end, AT_ONCE):
            length = min(AT_ONCE, end - start)
            self.data[start : start + length] = zeroes[:length]
            await asyncio.sleep(0)


class ObjectDisk:
    """A disk whose content is what a Python object says.

    The object has `read(offset, length) -> bytes`. With `write(offset, data)` it can be written;
    with `flush()`, flushed; with `discard(offset, length)`, told what is no longer needed. Each may
    be a coroutine function; requests are then served side by side. Offsets and lengths are bytes.
    `size` is the disk's, a multiple of `sector_size`.
    """

    def __init__(self, source: Any, size: int, *, sector_size: int = SECTOR_SIZE) -> None:
        if sector_size % SECTOR_SIZE or size % sector_size:
            raise ValueError(
                f"a disk of {size} bytes in sectors of {sector_size}: a sector has a multiple of "
                f"{SECTOR_SIZE} bytes, and a disk a multiple of its sector"
            )
        self.sectors: int = size // SECTOR_SIZE
        self.sector_size = sector_size
        self.read_only: bool = not hasattr(source, "write")
        self.discard_granularity: int = sector_size if hasattr(source, "discard") else 0
        self._source = source

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        data = self._source.read(offset, sum(map(len, buffers)))
        if isawaitable(data):
            return _fill_later(buffers, data)
        _fill(buffers, data)
        return None

    def write(self, offset: int, buffers: Buffers) -> Done:
        if self.read_only:
            raise OSError(EROFS, "this disk can only be read")
        return _done(self._source.write(offset, b"".join(buffers)))

    def flush(self) -> Done:
        flush = getattr(self._source, "flush", None)
        return None if flush is None else _done(flush())

    def discard(self, offset: int, length: int) -> Done:
        discard = getattr(self._source, "discard", None)
        return None if discard is None else _done(discard(offset, length))


def _done(result: object) -> Done:
    return cast(Awaitable[None], result) if isawaitable(result) else None


async def _fill_later(buffers: Buffers, data: Awaitable[bytes]) -> None:
    _fill(buffers, await data)


def _fill(buffers: Buffers, data: bytes) -> None:
    wanted = sum(map(len, buffers))
    if len(data) != wanted:
        raise OSError(EIO, f"the disk gave {len(data)} bytes when asked for {wanted}")
    start = 0
    with memoryview(data) as view:
        for buffer in buffers:
            buffer[:] = view[start : start + len(buffer)]
            start += len(buffer)
