"""What alice and bob say to each other over a vchan: a few lines, then much."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from anyio.streams.buffered import BufferedByteReceiveStream

from activations.demo.disk import Tick, noise
from activations.demo.figures import Ring
from activations.vchan import VchanStream

PIECE = 1 << 16
"""Bytes that are given to the stream at once."""
LONGEST = 200
CONVERSATION = (
    "Hello alice. Is it true that your disk is a file in dom0?",
    "It is. And your packets go through a switch there. This here does not.",
    "Memory you granted me, two rings in it, and a port to wake you?",
    "Nothing else. Send me something big, and I send something back.",
)
"""bob begins, and they take turns."""


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of what was sent, and of what was received."""

    sent: str
    received: str


class Talk:
    """One end's part in it."""

    def __init__(self, stream: VchanStream) -> None:
        self._stream = stream
        self._incoming = BufferedByteReceiveStream(stream)

    async def converse(self, *, begins: bool, show: Callable[[str], None]) -> None:
        """Take turns, and `show` what is said here.

        Raises `ValueError` for a line that is not heard as it was meant.
        """
        for turn, line in enumerate(CONVERSATION):
            if (turn % 2 == 0) == begins:
                show(line)
                await self._stream.send(f"{line}\n".encode())
            else:
                heard = await self._incoming.receive_until(b"\n", LONGEST)
                if heard != line.encode():
                    raise ValueError(f"heard {heard!r} instead of {line!r}")

    async def exchange(self, size: int, seed: int, ring: Ring, tick: Tick) -> Digests:
        """Send so many bytes while as many are received."""
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send(size, seed))
            receiving = tasks.create_task(self._receive(size, ring, tick))
        return Digests(sending.result(), receiving.result())

    async def _send(self, size: int, seed: int) -> str:
        digest = hashlib.sha256()
        block = b"".join(noise(PIECE))
        for number, at in enumerate(range(0, size, PIECE)):
            stamp = (seed << 32 | number).to_bytes(8)  # no two pieces alike
            piece = (stamp + block[8:])[: size - at]
            digest.update(piece)
            await self._stream.send(piece)
        return digest.hexdigest()

    async def _receive(self, size: int, ring: Ring, tick: Tick) -> str:
        digest, left = hashlib.sha256(), size
        while left:
            piece = await self._incoming.receive(min(left, PIECE))
            digest.update(piece)
            left -= len(piece)
            ring.count(len(piece), done=len(piece))
            tick()
        return digest.hexdigest()
