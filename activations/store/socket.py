"""A connection to a xenstored that listens on a Unix socket: the real daemon's, or a simulated one.

    async with Store(await connect(Path("/run/xenstored/socket"))) as store: ...

For programs on stock asyncio, which have no domain of their own to ask for its store.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from activations.store.errors import StoreUnreachable

_CHUNK = 65_536
_WHY = {
    errno.ENOENT: "there is no such socket",
    errno.ECONNREFUSED: "it is no socket, or was left behind by a xenstored that is gone",
}


async def connect(path: Path) -> SocketConnection:
    """A new connection. Raises `StoreUnreachable` if nobody serves this socket, or not us."""
    try:
        return SocketConnection(*await asyncio.open_unix_connection(path))
    except PermissionError as error:
        raise StoreUnreachable(f"{path}: {error.strerror}: run as who serves it") from error
    except OSError as error:
        why = _WHY.get(error.errno or 0) or error.strerror or str(error)
        raise StoreUnreachable(f"nobody serves {path}: {why}") from error


class SocketConnection:
    """A `StoreConnection` over asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: bytes) -> None:
        """Send one whole message."""
        self._writer.write(message)
        await self._writer.drain()

    async def receive(self) -> bytes:
        """The next bytes; empty when xenstored is gone."""
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Close at once: what a xenstored that does not read has not taken is not waited for."""
        self._writer.transport.abort()
