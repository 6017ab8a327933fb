"""A disk as its user sees it: bytes at offsets, from any number of tasks at once."""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from typing import TYPE_CHECKING

from activations.abi.blkif import SECTOR_SIZE, Op
from activations.drivers.block.errors import DiskError
from activations.drivers.block.offer import Geometry
from activations.drivers.block.pieces import Transfer
from activations.drivers.block.requests import Requests

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_READ, _WRITE = Op.READ, Op.WRITE
"""Found once: to find an enum's member takes as long as to call a function."""


class Disk:
    """What `open` gives. Offsets and lengths are in bytes, and multiples of `sector_size`.

    Requests are under way at once, as many as the rings hold, and done in any order: one that is
    to see another's effect is made after that one has returned. Those that find no room wait in
    line, first come first served; so do all while the back end is away. Cancelling a request only
    ends the wait for it: what is with the back end is done or not, and its pages are used again
    once it has answered.

    Raise `ValueError` for offsets and lengths that do not fit the disk, `DiskError` for what the
    back end does not do, and `DiskGone` once the device is closed or unplugged.
    """

    def __init__(self, requests: Requests) -> None:
        self.geometry: Geometry = Geometry()
        """What the back end says of the disk; that may change while it is in use."""
        self._requests = requests

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else "writable"
        return f"<Disk of {self.size} bytes, {mode}>"

    @property
    def sectors(self) -> int:
        """The disk's size in sectors of 512 bytes, whatever its own sectors are."""
        return self.geometry.sectors

    @property
    def size(self) -> int:
        """Bytes."""
        return self.geometry.sectors * SECTOR_SIZE

    @property
    def sector_size(self) -> int:
        """Bytes of the disk's own sectors: 512, or a larger power of two."""
        return self.geometry.sector_size

    @property
    def read_only(self) -> bool:
        """Whether the back end refuses writes."""
        return self.geometry.read_only

    @property
    def can_flush(self) -> bool:
        """Whether the back end offers `flush`."""
        return self.geometry.flush

    @property
    def can_discard(self) -> bool:
        """Whether the back end offers `discard`."""
        return self.geometry.discard

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on."""
        self._check_place(offset, length)  # before memory is taken for it
        data = bytearray(length)
        await self._do(_READ, offset, length, data)
        return bytes(data)

    async def read_into(self, offset: int, buffer: WriteableBuffer) -> None:
        """Fill the buffer with the bytes from `offset` on."""
        with memoryview(buffer) as view:
            if view.readonly:
                raise ValueError("the buffer to read into cannot be written to")
            length = view.nbytes
        self._check_place(offset, length)
        await self._do(_READ, offset, length, buffer)

    async def write(self, offset: int, data: ReadableBuffer) -> None:
        """Write the bytes at `offset`. They are not to change until this returns.

        The disk may keep them in a cache that a loss of power empties: see `flush`.
        """
        self._check_writable("write")
        with memoryview(data) as view:
            length = view.nbytes
        self._check_place(offset, length)
        await self._do(_WRITE, offset, length, data)

    async def flush(self) -> None:
        """Have what was written so far, by calls that returned, survive a loss of power.

        Raises `DiskError` (EOPNOTSUPP) where the back end did not offer it: see `can_flush`.
        """
        self._check_offered(self.can_flush, "flush")
        await self._do(Op.FLUSH_DISKCACHE, 0, 0, None)

    async def discard(self, offset: int, length: int) -> None:
        """These bytes are no longer needed; reading them gives anything then.

        Raises `DiskError` (EOPNOTSUPP) where the back end did not offer it: see `can_discard`.
        """
        self._check_writable("discard")
        self._check_offered(self.can_discard, "discard")
        self._check_place(offset, length)
        await self._do(Op.DISCARD, offset, length, None)

    async def _do(self, op: Op, offset: int, length: int, buffer: ReadableBuffer | None) -> None:
        if not length and op is not Op.FLUSH_DISKCACHE:
            return
        requests = self._requests
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        memory = None if buffer is None else memoryview(buffer).cast("B")
        try:
            transfer = Transfer(op, offset // SECTOR_SIZE, length, memory, partial(_tell, done))
            requests.submit(transfer)
            requests.fill()
            try:
                await done
            except asyncio.CancelledError:
                requests.abandon(transfer)
                requests.fill()  # it may have stood in the way of others
                raise
        finally:
            if memory is not None:
                memory.release()

    def _check_place(self, offset: int, length: int) -> None:
        unit, size = self.geometry.sector_size, self.geometry.sectors * SECTOR_SIZE
        if offset < 0 or length < 0:
            raise ValueError(f"{length} bytes at {offset}: neither can be negative")
        if offset % unit or length % unit:
            raise ValueError(
                f"{length} bytes at {offset}: both have to be multiples of {unit}, "
                "the bytes of a sector of this disk"
            )
        if offset + length > size:
            raise ValueError(f"{length} bytes at {offset} end beyond the disk's {size} bytes")

    def _check_writable(self, what: str) -> None:
        if self.read_only:
            raise DiskError(errno.EROFS, what, "the back end serves this disk read-only")

    def _check_offered(self, offered: bool, what: str) -> None:
        if not offered:
            raise DiskError(errno.EOPNOTSUPP, what, "the back end does not offer it")


def _tell(done: asyncio.Future[None], error: DiskError | None) -> None:
    if done.done():  # cancelled in this very turn
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error.with_traceback(None))
