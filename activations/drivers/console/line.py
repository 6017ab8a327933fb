"""One connection of a console: the rings on a page, seen from one end, and a port.

Nothing here asks for events. Each end sends one after whatever it has done, and the port keeps
those that come early, so no wake-up can be lost.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import NamedTuple

from anyio import BrokenResourceError

from activations.abi import console as abi
from activations.bell import bell
from activations.domain import Domain
from activations.errors import PortError
from activations.grants import Grant
from activations.port import PROGRAM_START, Port
from activations.ring import ByteRing, RingError


class Place(NamedTuple):
    """Where a ring lies in the page: its bytes, and its indices."""

    at: int
    size: int
    cons: int
    prod: int

    def ring(self, page: memoryview) -> ByteRing:
        data = page[self.at : self.at + self.size]
        return ByteRing(data, page, cons=self.cons, prod=self.prod)


_IN = Place(abi.IN_AT, abi.IN_SIZE, abi.IN_CONS, abi.IN_PROD)
_OUT = Place(abi.OUT_AT, abi.OUT_SIZE, abi.OUT_CONS, abi.OUT_PROD)
FRONT = (_IN, _OUT)
BACK = (_OUT, _IN)
"""The ring that an end reads, and the one that it writes."""


class Line:
    """One connection: a page's rings, seen from one end, and a port. Closed by `Console`."""

    def __init__(self, places: tuple[Place, Place], page: Grant, port: Port) -> None:
        self.page = page
        self.port = port
        self._ring_bell = bell(port)
        self.released: bool = False
        self.broken: asyncio.Event = asyncio.Event()
        """The other end broke a ring; `error` says how."""
        self.error: RingError | None = None
        incoming, outgoing = places
        self._incoming = incoming.ring(page.memory)
        self._outgoing = outgoing.ring(page.memory)
        self.seen_by_reader = self.seen_by_writer = PROGRAM_START

    def read(self, limit: int | None = None) -> bytes:
        """What there is. Raises `RingError`."""
        try:
            data = self._incoming.read(limit)
        except RingError as error:
            raise self._fault(error) from None
        if data:
            self._ring_bell()
        return data

    def write(self, data: memoryview) -> int:
        """Write what there is room for; how many bytes that was. Raises `RingError`."""
        try:
            count = self._outgoing.write(data)
        except RingError as error:
            raise self._fault(error) from None
        if count:
            self._ring_bell()
        return count

    async def event(self, seen: int) -> int:
        """Wait for an event after this one; give its number. Raises `BrokenResourceError` if the
        domain was suspended."""
        try:
            return await self.port.after(seen)
        except PortError as error:
            if self.released:
                return seen  # this connection is over: the console says what comes next
            raise BrokenResourceError(str(error)) from error

    def release(self) -> None:
        """Give up the views of the page, and the port. Twice is harmless."""
        self.released = True
        self._incoming.release()
        self._outgoing.release()
        self.port.close()

    def _fault(self, error: RingError) -> RingError:
        self.error = RingError(f"the other end of the console broke its ring: {error}")
        self.broken.set()
        return self.error


def mapped(xen: Domain, domid: int, ref: int, number: int) -> Line:
    """The back end's line, on a page of `domid` and to its port. Raises `XenError`."""
    with ExitStack() as undo:
        page = undo.enter_context(xen.grants.map(domid, [ref]))
        port = undo.enter_context(xen.events.bind_interdomain(domid, number))
        line = Line(BACK, page, port)
        undo.pop_all()
    return line
