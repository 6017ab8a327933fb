"""The paravirtual console, either end, as a stream of bytes.

    async with console.serve_first(xen, guest) as tty:       # in dom0: what a guest's hvc0 prints
        print(await tty.receive())
        await tty.send(b"uptime\n")

    async with console.serve(xen, device) as tty: ...        # the back end of a further console
    async with console.open(xen, device) as tty: ...         # its front end

The toolstack makes a guest's first console before the guest boots: a page and a port, which Linux
calls hvc0. Further ones are devices like others, and find their other end by the handshake. A
console outlives the other end, as a terminal does: while there is none, `receive` and `send` wait.

Nothing here asks for events. Each end sends one after whatever it has done, and the port keeps
those that come early, so no wake-up can be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, ResourceGuard
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from activations.abi import console as abi
from activations.domain import Domain
from activations.drivers.leftovers import Leftovers
from activations.errors import PortError, XenError
from activations.grants import Grant
from activations.port import PROGRAM_START, Port
from activations.ring import ByteRing, RingError
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    Handshake,
    Keys,
    Phase,
    Written,
)

PORTS = range(1, 1 << 17)
"""Numbers that a port can have, the 131,072 of the FIFO ABI."""
REFS = range(1 << 32)


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
FRONT, BACK = (_IN, _OUT), (_OUT, _IN)
"""The ring that an end reads, and the one that it writes."""


class Line:
    """One connection: a page's rings, seen from one end, and a port. Closed by `Console`."""

    def __init__(self, places: tuple[Place, Place], page: Grant, port: Port) -> None:
        self.page = page
        self.port = port
        self.released = False
        self.broken = asyncio.Event()
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
            self._notify()
        return data

    def write(self, data: memoryview) -> int:
        """Write what there is room for; how many bytes that was. Raises `RingError`."""
        try:
            count = self._outgoing.write(data)
        except RingError as error:
            raise self._fault(error) from None
        if count:
            self._notify()
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

    def _notify(self) -> None:
        with suppress(PortError, XenError):  # nobody is there: nobody has to know
            self.port.notify()


class Console(ByteStream):
    """One end of a console, over any number of connections.

    One task may receive while another sends. The ring that a guest prints to holds 2 KiB, the one
    that it is typed at 1 KiB.
    """

    def __init__(self) -> None:
        self._line: Line | None = None
        self._kept = b""
        self._over = self._closed = False
        self._changed = asyncio.Event()
        self._receiving = ResourceGuard("receiving from")
        self._sending = ResourceGuard("sending to")

    def __repr__(self) -> str:
        connected = "connected" if self._line else "not connected"
        return f"<Console: {'closed' if self._closed else connected}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, at least one, at most `max_bytes`, also of an end that has gone since.

        Raises `EndOfStream` once there can be no other end any more, `RingError` if the other end
        breaks the ring, `ClosedResourceError` if this one is closed, `BrokenResourceError` after a
        suspend. Cancelled, it has taken nothing.
        """
        if max_bytes < 1:
            raise ValueError(f"at most {max_bytes} bytes cannot be received")
        with self._receiving:
            await checkpoint()
            while True:
                if self._closed:
                    raise ClosedResourceError
                if self._kept:
                    data, self._kept = self._kept[:max_bytes], self._kept[max_bytes:]
                    return data
                if line := self._line:
                    if data := line.read(max_bytes):
                        return data
                    line.seen_by_reader = await line.event(line.seen_by_reader)
                elif self._over:
                    raise EndOfStream
                else:
                    await self._change()

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Write all of `item`, waiting for room and for another end as need be.

        Raises `BrokenResourceError` once there can be no other end any more, and after a suspend;
        else as `receive`. On an error, and when cancelled, a part may have been sent.
        """
        with self._sending, memoryview(item).cast("B") as view:
            await checkpoint()
            written = 0
            while True:
                if self._closed:
                    raise ClosedResourceError
                if self._over:
                    raise BrokenResourceError("the console's other end is gone")
                if line := self._line:
                    with view[written:] as rest:
                        written += line.write(rest)
                    if written == len(view):
                        return
                    line.seen_by_writer = await line.event(line.seen_by_writer)
                else:
                    await self._change()

    async def send_eof(self) -> None:
        """A console has no end: raises `NotImplementedError`. Ctrl-D is `send(b"\\4")`."""
        raise NotImplementedError('a console has no end of file: type one, send(b"\\4")')

    async def aclose(self) -> None:
        """Send and receive no more. The connection goes with the block that made the console."""
        self._closed = True
        self.disconnect()

    # What the drivers do

    def connect(self, line: Line) -> None:
        """There is another end."""
        if not self._closed:
            self._line = line
        self._wake()

    def disconnect(self) -> None:
        """It has gone. What it had written is kept for `receive`."""
        line, self._line = self._line, None
        if line is not None:
            with suppress(RingError):
                self._kept += line.read()
            line.release()
        self._wake()

    def end(self) -> None:
        """There will be none any more."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()


# The first console


@asynccontextmanager
async def serve_first(xen: Domain, domid: int) -> AsyncIterator[Console]:
    """The back end of a guest's first console, hvc0, in place of xenconsoled; until the block is
    left, or the guest is gone.

    Waits until the toolstack has made one. Raises `XenError` if Xen refuses: EINVAL where
    xenconsoled serves it.
    """
    node = f"/local/domain/{domid}/console/{abi.PORT}"
    number = int(await xen.store.wait_for(node, str.isdecimal))
    async with serve_page(xen, domid, abi.GNTTAB_RESERVED_CONSOLE, number) as console:
        watching = asyncio.create_task(_end_with(xen, node, console), name=f"hvc0 of {domid}")
        try:
            yield console
        finally:
            watching.cancel()
            await asyncio.wait([watching])


@asynccontextmanager
async def serve_page(xen: Domain, domid: int, ref: int, number: int) -> AsyncIterator[Console]:
    """The back end of a console whose page domain `domid` has granted as `ref`, and whose port is
    `number`. Raises `XenError` for what Xen refuses."""
    console = Console()
    line = _mapped(xen, domid, ref, number)
    try:
        console.connect(line)
        yield console
    finally:
        await console.aclose()
        line.page.close()


async def _end_with(xen: Domain, node: str, console: Console) -> None:
    """The guest is gone when its node is."""
    async with xen.store.watch(node) as changes:
        async for _ in changes:
            if not await xen.store.exists(node):
                console.disconnect()
                console.end()
                return


def _mapped(xen: Domain, domid: int, ref: int, number: int) -> Line:
    with ExitStack() as undo:
        page = undo.enter_context(xen.grants.map(domid, [ref]))
        port = undo.enter_context(xen.events.bind_interdomain(domid, number))
        line = Line(BACK, page, port)
        undo.pop_all()
    return line


# Further consoles, by the handshake


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

    async def outlive() -> None:
        await end.reached(Phase.FAILED, Phase.UNPLUGGED)
        console.end()

    async with end:
        watching = asyncio.create_task(outlive(), name=f"{end.device} may go")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await console.aclose()


class ConsoleFront(FrontDriver):
    """The front end's driver: a fresh page and port for each connection."""

    def __init__(self, xen: Domain, device: Device) -> None:
        self.console = Console()
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
        self.console = Console()
        self._xen = xen
        self._domid = device.front
        self._line: Line | None = None

    async def offer(self) -> Written:
        return {}

    async def connect(self, front: Keys) -> Written:
        ref = front.integer(abi.RING_REF, within=REFS)
        number = front.integer(abi.PORT, within=PORTS)
        self._line = _mapped(self._xen, self._domid, ref, number)
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
