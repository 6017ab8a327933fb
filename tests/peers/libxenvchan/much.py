"""As much as 64 MiB each way at once, known by their SHA-256."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from random import Random

MUCH = 1 << 26
PIECE = 1 << 16
PERIOD = 999_983
"""A prime: what is repeated falls on another place of a ring every time."""


def pieces(seed: int, total: int) -> Iterator[bytes]:
    """So many bytes by chance."""
    noise = Random(seed).randbytes(PERIOD) * 2
    for at in range(0, total, PIECE):
        begin = at % PERIOD
        yield noise[begin : begin + PIECE]


async def exchange(
    seed: int,
    send: Callable[[bytes], Awaitable[object]],
    receive: Callable[[], Awaitable[bytes]],
    total: int = MUCH,
) -> dict[str, str]:
    """Send and receive as much at once; the sums of both."""
    sent, heard = sha256(), sha256()

    async def send_all() -> None:
        for piece in pieces(seed, total):
            sent.update(piece)
            await send(piece)

    async with asyncio.TaskGroup() as group:
        group.create_task(send_all())
        left = total
        while left:
            data = await receive()
            assert data, "the other end left early"
            heard.update(data)
            left -= len(data)
    assert not left, "more came than was sent"
    return {"sent": sent.hexdigest(), "heard": heard.hexdigest()}
