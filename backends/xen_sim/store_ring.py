"""A guest's connection to xenstored: its ring page and the port that goes with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from activations.store.page import StorePage

if TYPE_CHECKING:
    from activations.lower import Waitable


class RingConnection:
    """A `StoreConnection` over a page of 4096 bytes and a port to xenstored.

    Only `receive` waits on the port, so that no event can be taken from one who waits by another;
    it also passes on what `send` found no room for. Somebody must therefore be receiving while a
    `send` waits, as a `Store` always is. A cancelled `send` still sends its message.
    """

    def __init__(self, page: memoryview, port: Waitable) -> None:
        self._page = StorePage(page)
        self._port = port
        self._unsent = bytearray()
        self._sent = asyncio.Event()

    async def send(self, message: bytes) -> None:
        """Send one whole message; returns when all of it is in the ring."""
        self._unsent += message
        self._pass_on()
        while self._unsent:
            self._sent.clear()
            await self._sent.wait()

    async def receive(self) -> bytes:
        """The next bytes; empty when xenstored has stopped listening.

        Raises `RingError` if the page's indices make no sense, `PortError` when the port ends.
        """
        while not self._page.fault:
            self._pass_on()
            if data := self._page.responses.read():
                self._port.notify()  # there may be more that waited for room
                return data
            await self._port.wait()
        return b""

    def close(self) -> None:
        """Close the port; whoever receives gets `PortClosed`."""
        self._port.close()

    def _pass_on(self) -> None:
        if not self._unsent:
            return
        if written := self._page.requests.write(self._unsent):
            del self._unsent[:written]
            self._port.notify()
        if not self._unsent:
            self._sent.set()
