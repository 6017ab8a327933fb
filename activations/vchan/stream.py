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
        self._seen_by_receiver = self._seen_by_sender = PROGRAM_START

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
            raise ValueError(f"at most {max_bytes} bytes cannot be received")
        with self._receiving:
            await checkpoint()
            while True:
                if data := self._read(max_bytes):
                    return data
                self._seen_by_receiver = await self._event_after(self._seen_by_receiver)

    def _read(self, limit: int) -> bytes:
        """What can be read; if nothing, the other end is asked to tell."""
        end = self._open().end
        if data := end.read(limit):
            return data
        end.ask(Notify.WRITE)
        left = self._link.peer_left  # looked at before the ring: it may write and leave
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
        with self._sending:
            await checkpoint()
            with memoryview(item).cast("B") as view:
                written = 0
                while (written := written + self._write(view[written:])) < len(view):
                    self._seen_by_sender = await self._event_after(self._seen_by_sender)

    def _write(self, data: memoryview) -> int:
        """What could be written; if not all, the other end is asked to tell."""
        end = self._open().end
        if self._link.peer_left:
            raise BrokenResourceError(f"domain {self.domid} has closed its end of the vchan")
        with data:
            written = end.write(data)
            if written == len(data):
                return written
            end.ask(Notify.READ)
            with data[written:] as rest:
                return written + end.write(rest)

    async def send_eof(self) -> None:
        """vchan cannot close one direction alone: raises `NotImplementedError`."""
        raise NotImplementedError("vchan has no end of file for one direction: close the stream")

    async def aclose(self) -> None:
        """Leave: the other end is told, the port and the pages go. Twice is harmless.

        Whoever waits in `receive` or `send` gets `ClosedResourceError`. Raises `XenError` as
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
            raise ClosedResourceError from None
        except PortError as error:
            raise BrokenResourceError(str(error)) from error
