"""A client's connection to a simulated xenstored in the same event loop, with no ring between.

For testing code that needs a store and nothing else of Xen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xen_sim.xenstored.server import Xenstored


class MemoryConnection:
    """A `StoreConnection` that speaks for a domain: `Store(MemoryConnection(xenstored, 1))`."""

    def __init__(self, xenstored: Xenstored, domid: int = 0) -> None:
        self._server = xenstored.connect(domid)
        self._arrived = asyncio.Event()
        self._server.on_output = self._arrived.set

    async def send(self, message: bytes) -> None:
        self._server.receive(message)
        if self._server.broken:
            self._arrived.set()

    async def receive(self) -> bytes:
        while not (output := self._server.take_output()) and not self._server.broken:
            self._arrived.clear()
            await self._arrived.wait()
        return output

    def close(self) -> None:
        """The client goes: xenstored drops its watches and transactions."""
        self._server.close()
        self._arrived.set()
