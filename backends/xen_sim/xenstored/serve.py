"""The simulated xenstored on a Unix socket, for Xen's own tools.

    XENSTORED_PATH=/tmp/xenstored xenstore-ls

As with the real one, who can open the socket is trusted like dom0.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from xen_sim.xenstored.server import Xenstored

_CHUNK = 65536


class SocketServer:
    """`async with SocketServer(xenstored, path):` listens at `path` while the block runs.

    A socket that a dead server left there is replaced. Leaving the block closes the socket and its
    connections, and removes the path if it is still ours. Raises `OSError` if it cannot listen
    there: EADDRINUSE where somebody else does.
    """

    def __init__(self, xenstored: Xenstored, path: Path) -> None:
        self._xenstored = xenstored
        self._path = path
        self._clients: dict[asyncio.Task[None], None] = {}
        self._server: asyncio.Server
        self._identity: tuple[int, int]

    async def __aenter__(self) -> SocketServer:
        if _is_served(self._path):  # asyncio would remove it all the same
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(self._path))
        # Nothing waits in here, so that no cancellation leaves the socket without an owner.
        self._server = await asyncio.start_unix_server(
            self._accept, self._path, start_serving=False
        )
        self._identity = _identity(self._path)
        try:
            await self._server.start_serving()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(FileNotFoundError):
            if _identity(self._path) == self._identity:
                self._path.unlink()  # before it is closed, or it would be taken for a dead one
        self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await self._server.wait_closed()

    async def serve_forever(self) -> None:
        """Until cancelled."""
        await self._server.serve_forever()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(
            self._serve(reader, writer), name="xenstored client"
        )
        self._clients[task] = None
        task.add_done_callback(lambda done: self._clients.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._xenstored.connect(0)
        connection.on_turn = lambda: writer.write(connection.take_output())
        try:
            while not connection.broken and (data := await reader.read(_CHUNK)):
                connection.receive(data)
                await writer.drain()
        except ConnectionError:
            pass  # it went without saying goodbye
        finally:
            connection.close()
            writer.close()


def _is_served(path: Path) -> bool:
    """Whether somebody listens at this path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # and is behind with accepting
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    """What tells this file from another of the same name."""
    found = path.stat()
    return found.st_dev, found.st_ino
