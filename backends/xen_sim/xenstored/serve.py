"""The simulated xenstored on a Unix socket, for Xen's own tools.

    XENSTORED_PATH=/tmp/xenstored xenstore-ls

As with the real one, who can open the socket is trusted like dom0.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from xen_sim.xenstored.server import Xenstored

_CHUNK = 65536


class SocketServer:
    """`async with SocketServer(xenstored, path):` listens at `path` while the block runs.

    Leaving it closes the socket and its connections, and removes the path. Raises `OSError` if it
    cannot listen there.
    """

    def __init__(self, xenstored: Xenstored, path: Path) -> None:
        self._xenstored = xenstored
        self._path = path
        self._clients: dict[asyncio.Task[None], None] = {}
        self._server: asyncio.Server

    async def __aenter__(self) -> SocketServer:
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

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
        connection.on_output = lambda: writer.write(connection.take_output())
        try:
            while not connection.broken and (data := await reader.read(_CHUNK)):
                connection.receive(data)
                await writer.drain()
        except ConnectionError:
            pass  # it went without saying goodbye
        finally:
            connection.close()
            writer.close()
