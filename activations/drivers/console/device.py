"""Further consoles: devices whose two ends find each other by the handshake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import ClassVar

from activations.abi import console as abi
from activations.domain import Domain
from activations.drivers.console.line import FRONT, Line, mapped
from activations.drivers.console.stream import Console
from activations.leftovers import Leftovers
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    Handshake,
    Keys,
    Written,
)
from activations.xenbus.gone import when_gone

PORTS = range(1, 1 << 17)
"""Numbers that a port can have, the 131,072 of the FIFO ABI."""
REFS = range(1 << 32)


@asynccontextmanager
async def open(xen: Domain, device: Device) -> AsyncIterator[Console]:
    """The front end of a console, for as long as the block lasts; `send` waits for a back end."""
    driver = ConsoleFront(xen, device)
    try:
        async with _run(FrontEnd(xen, device, driver), driver.console):
            yield driver.console
    finally:
        await driver.aclose()


@asynccontextmanager
async def serve(xen: Domain, device: Device) -> AsyncIterator[Console]:
    """The back end of a console, for as long as the block lasts; `send` waits for a front end."""
    driver = ConsoleBack(xen, device)
    async with _run(BackEnd(xen, device, driver), driver.console):
        yield driver.console


@asynccontextmanager
async def _run(end: Handshake, console: Console) -> AsyncIterator[None]:
    """Run a console's end; when the device is gone for good the console ends."""
    async with end:
        try:
            with when_gone(end, lambda why: console.end()):
                yield
        finally:
            await console.aclose()


class ConsoleFront(FrontDriver):
    """The front end's driver: a fresh page and port for each connection."""

    writes: ClassVar[Sequence[str]] = (abi.RING_REF, abi.PORT)

    def __init__(self, xen: Domain, device: Device) -> None:
        self.console: Console = Console()
        self._xen = xen
        self._domid = device.back
        self._line: Line | None = None
        self._left = Leftovers()

    async def publish(self, back: Keys) -> Written:
        with ExitStack() as undo:
            page = undo.enter_context(self._xen.grants.share(self._domid))
            port = undo.enter_context(self._xen.events.alloc_unbound(self._domid))
            self._line = Line(FRONT, page, port)
            undo.pop_all()
        return {abi.RING_REF: page.refs[0], abi.PORT: port.number}

    async def connect(self, back: Keys) -> None:
        assert self._line is not None
        self.console.connect(self._line)

    async def serve(self) -> None:
        assert self._line is not None
        await _until_broken(self._line)

    async def disconnect(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self.console.disconnect()
            line.release()
            self._left.close(line.page)

    async def aclose(self) -> None:
        """Wait until the back end has let go of every page."""
        await self._left.aclose()


class ConsoleBack(BackDriver):
    """The back end's driver: maps what the front end publishes."""

    def __init__(self, xen: Domain, device: Device) -> None:
        self.console: Console = Console()
        self._xen = xen
        self._domid = device.front
        self._line: Line | None = None

    async def offer(self) -> Written:
        return {}

    async def connect(self, front: Keys) -> Written:
        ref = front.integer(abi.RING_REF, within=REFS)
        number = front.integer(abi.PORT, within=PORTS)
        self._line = mapped(self._xen, self._domid, ref, number)
        self.console.connect(self._line)
        return {}

    async def serve(self) -> None:
        assert self._line is not None
        await _until_broken(self._line)

    async def disconnect(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self.console.disconnect()
            line.release()
            line.page.close()


async def _until_broken(line: Line) -> None:
    """Raise what is wrong with the ring, once something is."""
    await line.broken.wait()
    assert line.error is not None
    raise line.error
