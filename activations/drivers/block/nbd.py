"""A disk whose bytes are on an NBD server, which may be another program or another machine.

    async with NbdSource("nbd://server/export") as disk:
        async with block.serve(xen, device, disk) as end: ...

**Where the server goes away**, a request that it has not answered is sent again on a new
connection, for as long as `patience` lasts; then it fails. That is safe, since a request that is
done twice does what it does once. But what was written and not flushed may be lost with the server,
and the next flush, which promises that it is not, fails therefore: once, as `fsync` does on Linux.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from errno import EBADF, EIO, ESTALE
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from activations.drivers.block.disks import ObjectDisk
from activations.drivers.block.nbd_connection import (
    CAN_FLUSH,
    CAN_TRIM,
    FLUSH,
    READ,
    READ_ONLY,
    TRIM,
    WRITE,
    Connection,
    Export,
    NbdError,
    NbdLost,
)

PATIENCE = 30.0
"""Seconds for a request, those included in which the server is away."""
AT_ONCE = 16
"""Requests under way."""
PORT = 10809
_PAUSE = 0.1
"""Seconds between two attempts to reach a server that is away."""
_LONGEST_TRIM = 1 << 30
"""Bytes: lengths have 32 bits."""


class Address(NamedTuple):
    """Where the server is, and which of its disks is meant."""

    host: str
    """Empty where there is a `socket`."""
    port: int
    socket: str
    export: str


def parse(url: str) -> Address:
    """`nbd://HOST[:PORT]/EXPORT` or `nbd+unix:///EXPORT?socket=PATH`. Raises `ValueError`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port that is not a number, half an address of IPv6
        parts, host, port = urlsplit(""), "", 0
    export = unquote(parts.path.removeprefix("/"))
    sockets = parse_qs(parts.query).get("socket", [])
    if parts.scheme == "nbd" and host and port != 0:
        return Address(host, port or PORT, "", export)
    if parts.scheme == "nbd+unix" and not host and len(sockets) == 1:
        return Address("", 0, sockets[0], export)
    raise ValueError(
        f"{url!r} is not the URL of an NBD server: nbd://server/export, or "
        "nbd+unix:///export?socket=/run/nbd.sock"
    )


class NbdSource:
    """`async with NbdSource(url) as disk:` is a disk while the block runs.

    Raises `ValueError` for a URL that is not NBD's. Entering the block raises `NbdLost`; reading
    and writing, `NbdError`: with the URL and why. It needs the wall clock, as any socket.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.url = url
        self.patience = patience
        self._address = parse(url)
        self._export: Export | None = None
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._closed = False
        self._written = self._flushed = 0
        """Writes and trims that were answered, in all; and how many of them are safe."""
        self._doubted = False
        """Some that were not safe were made on a connection that was lost since."""

    async def __aenter__(self) -> ObjectDisk:
        try:
            async with asyncio.timeout(self.patience):
                self._connection = await self._connect()
        except TimeoutError:
            raise self._lost(f"no answer within {self.patience:g} s") from None
        assert self._export is not None
        size, flags, unit, _ = self._export
        disk = ObjectDisk(self, size, sector_size=unit)
        disk.read_only = bool(flags & READ_ONLY)
        disk.discard_granularity = unit if flags & CAN_TRIM and not disk.read_only else 0
        return disk

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True  # what is under way fails
        if self._connection is not None:
            self._connection.close()

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on."""
        pieces = [await self._ask(READ, at, size) for at, size in self._pieces(offset, length)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write(self, offset: int, data: bytes) -> None:
        """Put the bytes at `offset`; they are safe after a flush."""
        for at, size in self._pieces(offset, len(data)):
            await self._ask(WRITE, at, size, data[at - offset : at - offset + size])
            self._written += 1

    async def flush(self) -> None:
        """Have the server make safe what was written, if it says that it can. Raises `NbdError`
        also where the server was away meanwhile, and may have lost some of it."""
        if self._export is None or not self._export.flags & CAN_FLUSH:
            return
        written = self._written
        await self._ask(FLUSH, 0, 0)
        if self._doubted:
            self._doubted, self._flushed = False, self._written
            raise NbdError(EIO, f"{self.url}: the server was away, and may have lost writes")
        self._flushed = max(self._flushed, written)

    async def discard(self, offset: int, length: int) -> None:
        """These bytes are not needed any more."""
        for at, size in _pieces(offset, length, _LONGEST_TRIM):
            await self._ask(TRIM, at, size)
            self._written += 1

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return _pieces(offset, length, self._export.longest if self._export else length)

    async def _ask(self, command: int, offset: int, length: int, data: bytes = b"") -> bytes:
        why = f"no answer within {self.patience:g} s"
        async with self._free:
            try:
                async with asyncio.timeout(self.patience):
                    while True:
                        try:
                            connection = await self._connected()
                            return await connection.ask(command, offset, length, data)
                        except NbdLost as error:
                            why = f"{error.strerror}; tried for {self.patience:g} s"
                            await asyncio.sleep(_PAUSE)
                        except NbdError as error:
                            raise NbdError(error.errno, f"{self.url}: {error.strerror}") from None
            except TimeoutError:
                if self._connection is not None:
                    self._connection.fail("the server does not answer")  # nor will it others
                raise self._lost(why) from None

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._closed:
                raise NbdError(EBADF, "the disk was closed")
            if self._connection is None or self._connection.why:
                self._connection = await self._connect()
                self._doubted |= self._written > self._flushed
            return self._connection

    async def _connect(self) -> Connection:
        """A new connection to the same disk. Raises `NbdLost`, and `NbdError` for another disk."""
        host, port, path, export = self._address
        loop, connection = asyncio.get_running_loop(), Connection(export)
        try:
            if path:
                await loop.create_unix_connection(lambda: connection, path)
            else:
                await loop.create_connection(lambda: connection, host, port)
            found = await connection.ready
        except NbdLost as error:
            connection.close()
            raise self._lost(error.strerror or "") from None
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from None
        except BaseException:
            connection.close()
            raise
        if self._export not in (None, found):
            connection.close()
            raise NbdError(ESTALE, "the server has another disk there now")
        self._export = found
        return connection

    def _lost(self, why: str) -> NbdLost:
        return NbdLost(EIO, f"{self.url}: {why.removeprefix(f'{self.url}: ')}")


def _pieces(offset: int, length: int, longest: int) -> Iterator[tuple[int, int]]:
    """Where each request begins, and its length."""
    return (
        (at, min(longest, offset + length - at)) for at in range(offset, offset + length, longest)
    )
