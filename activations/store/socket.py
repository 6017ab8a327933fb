"""A connection to a xenstored that listens on a Unix socket: the real daemon's, or a simulated one.

    async with Store(await connect(Path("/run/xenstored/socket"))) as store: ...

For programs on stock asyncio, which have no domain of their own to ask for its store.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

from activations.store.descriptor import DescriptorConnection
from activations.store.errors import StoreUnreachable

_WHY = {
    errno.ENOENT: "there is no such socket",
    errno.ECONNREFUSED: "it is not a socket, or its xenstored has ended",
}


async def connect(path: Path) -> DescriptorConnection:
    """A new connection. Raises `StoreUnreachable` if no xenstored answers there, or not us."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(stream, str(path))
        except PermissionError as error:
            raise StoreUnreachable(
                f"{path}: {error.strerror}: run as the user whose xenstored it is"
            ) from error
        except OSError as error:
            why = _WHY.get(error.errno or 0) or error.strerror or str(error)
            raise StoreUnreachable(f"no xenstored answers at {path}: {why}") from error
        return DescriptorConnection(stream.detach())
