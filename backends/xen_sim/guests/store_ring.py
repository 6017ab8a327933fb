"""A guest's connection to xenstored: its ring page and the port that goes with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from activations.store.page import StorePage

if TYPE_CHECKING:
    from activations.lower import StoreUser, Waitable


class RingConnection:
    """A `StoreConnection` over a page of 4096 bytes and a port to xenstored.

    Each event is asked for before the page is looked at, so that none can come in between and be
    missed. What was found no room for goes when xenstored has made some, which is an event too.
    """

    def __init__(self, page: memoryview, port: Waitable) -> None:
        self._page = StorePage(page)
        self._port = port
        self._unsent = bytearray()
        self._closed = False
        self._event: asyncio.Future[None] | None = None
        self._user: StoreUser

    def start(self, user: StoreUser) -> None:
        """Listen from now on."""
        self._user = user
        self._listen()

    def send(self, message: bytes) -> None:
        """Send one whole message: now, or as soon as there is room."""
        self._unsent += message
        try:
            self._pass_on()
        except Exception as error:  # of the page, or the port: both are the connection's
            self._user.lost(error)

    def close(self) -> None:
        """Close the port; twice is harmless."""
        if not self._closed:
            self._closed = True
            if self._event is not None:
                self._event.cancel()
            self._port.close()

    def _listen(self) -> None:
        try:
            self._event = self._port.next_event()
            self._event.add_done_callback(self._happened)
            self._take()
        except Exception as error:
            self._user.lost(error)

    def _happened(self, event: asyncio.Future[None]) -> None:
        if event.cancelled():
            return
        error = event.exception()
        if self._closed:
            return
        if isinstance(error, Exception):
            self._user.lost(error)
        else:
            self._listen()

    def _take(self) -> None:
        """Take what has come, and pass on what there is room for now.

        Raises `RingError` if the page's indices make no sense.
        """
        while not self._closed:
            if self._page.fault:
                self._user.lost(None)
                return
            self._pass_on()
            data = self._page.responses.read()
            if not data:
                return
            self._port.notify()  # there may be more that waited for room
            self._user.received(data)

    def _pass_on(self) -> None:
        if self._unsent and (written := self._page.requests.write(self._unsent)):
            del self._unsent[:written]
            self._port.notify()
