"""A vchan as anyio's byte stream: looking, asking, and waiting for events.

Both directions share one port. Each keeps the number of the event it last saw (`Port.after`), so
a receiver and a sender that wait at once cannot take an event from each other.
"""

from __future__ import annotations

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, ResourceGuard
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from activations.abi.vchan import Notify
from activations.errors import PortClosed, PortError
from activations.port import PROGRAM_START
from activations.vchan.link import Link

STINT = 32
"""Operations that can be done at once, until the loop's other tasks get a turn all the same. Each
turn costs several times what a small read or write does."""
LOOKS = 16
"""How often to look before going to sleep where the other end is at work: it has left the ring
full, or has just sent `FLOW` bytes at once. To sleep costs a turn of the loop here and a hypercall
there, more than so many looks; where the other end runs at the same time on another processor,
they find what it is about to do. On an emulated Xen that doubles the rate through small rings."""
FLOW = 4096


class VchanStream(ByteStream):
    """One end of a connected vchan; from `connect` or a listener's `accept`.

    One task may receive while another sends. Close it with `aclose()` or `async with`. What was
    sent before this end closes, the other end can still receive.
    """

    def __init__(self, link: Link, domid: int) -> None:
        self.domid = domid
        """The other end's domain."""
        self._link = link
        self._receiving = ResourceGuard("receiving from")
        self._sending = ResourceGuard("sending to")
        self._sends = False
        """Somebody is within `_sending`."""
        self._seen_by_receiver = self._seen_by_sender = PROGRAM_START
        self._flows = False
        self._stint = 0

    def __repr__(self) -> str:
        state = "closed" if self._link.closed else f"port {self._link.port.number}"
        return f"<VchanStream with domain {self.domid}: {state}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, at least one, at most `max_bytes`.

        Raises `EndOfStream` once the other end is gone, or dead, and all it wrote has been
        received; `VchanError` if it breaks the protocol; `ClosedResourceError` if this end is or
        gets closed; `BrokenResourceError` after a suspend. Cancelled, it has taken nothing.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes}: it must be 1 or more")
        with self._receiving:
            if self._stint <= 0:
                await self._rest()
            self._stint -= 1
            while not (data := self._read(max_bytes)):
                self._seen_by_receiver = await self._event_after(self._seen_by_receiver)
            return data

    def _read(self, limit: int) -> bytes:
        """What can be read; if nothing, the other end is asked to tell."""
        end = self._open().end
        for _ in range(LOOKS if self._flows else 1):
            if data := end.read(limit):
                self._flows = len(data) >= FLOW
                return data
        end.ask(Notify.WRITE)
        left = end.peer_left  # looked at before the ring: it may write and leave
        data = end.read(limit)
        if left and not data:
            raise EndOfStream
        return data

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Write all of `item` into the ring, waiting for room as need be.

        Raises `BrokenResourceError` if the other end is gone, or dead, or after a suspend;
        `VchanError` if it breaks the protocol; `ClosedResourceError` if this end is or gets
        closed. On an error, and when cancelled, a part may have been sent.
        """
        written = 0
        link = self._link
        refused = self._sends or link.closed or link.end.peer_left
        if not refused and type(item) is bytes and self._stint > 0:
            # Most of what is sent fits, and then takes no view of it nor a coroutine more, nor a
            # guard, since no other task runs in between; what is wrong is left for `_write` to say.
            self._stint -= 1
            written = link.end.write(item)
            if written and written == len(item):
                return
        with self._sending:
            self._sends = True
            try:
                with memoryview(item).cast("B") as view:
                    written = written or await self._send_some(view)
                    while written < len(view):
                        with view[written:] as rest:
                            written += await self._send_some(rest)
            finally:
                self._sends = False

    async def _send_some(self, data: memoryview) -> int:
        """Write what there is room for, once there is some."""
        if self._stint <= 0:
            await self._rest()
        self._stint -= 1
        while not (written := self._write(data)) and data:
            self._seen_by_sender = await self._event_after(self._seen_by_sender)
        return written

    def _write(self, data: memoryview) -> int:
        """How much could be written; if nothing, the other end is asked to tell."""
        end = self._open().end
        if end.peer_left:
            raise BrokenResourceError(f"domain {self.domid} has closed its end of the vchan")
        if not data:
            return 0
        for _ in range(LOOKS):
            if written := end.write(data):
                return written
        end.ask(Notify.READ)
        return end.write(data)

    async def _rest(self) -> None:
        self._stint = STINT
        await checkpoint()

    async def send_eof(self) -> None:
        """vchan cannot close one direction alone: raises `NotImplementedError`."""
        raise NotImplementedError("vchan has no end of file for one direction: close the stream")

    async def aclose(self) -> None:
        """Leave: the other end is told, the port and the pages go. Twice is harmless.

        A task that waits in `receive` or `send` gets `ClosedResourceError`. Raises `XenError` as
        `Link.aclose` does.
        """
        await self._link.aclose()

    def _open(self) -> Link:
        if self._link.closed:
            raise ClosedResourceError
        return self._link

    async def _event_after(self, seen: int) -> int:
        try:
            return await self._link.port.after(seen)
        except PortClosed:
            if self._link.bereft and not self._link.closed:
                return seen  # the next look finds the other end gone
            raise ClosedResourceError from None
        except PortError as error:
            raise BrokenResourceError(str(error)) from error
