"""A console as anyio's byte stream. It outlives the other end, as a terminal does: while there is
none, `receive` and `send` wait for another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, ResourceGuard
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from activations.drivers.console.line import Line
from activations.ring import RingError


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
            raise ValueError(f"max_bytes={max_bytes}: it must be 1 or more")
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
