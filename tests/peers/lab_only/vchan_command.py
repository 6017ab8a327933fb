"""`activations vchan`, as a process in dom0 and one in a guest."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from random import Random

from anyio import EndOfStream
from patience import patience

from activations import Domain, Scenario, vchan

COMMAND = ("activations", "vchan")
MUCH = Random(1).randbytes(3_000_001)
PATIENCE = patience(120)

by_hand = Scenario("long: files go both ways by hand")


async def command(*arguments: str, typed: bytes | None = None) -> bytes:
    """Run it to its end; what it printed. Its input is empty, or this and then its end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=DEVNULL if typed is None else PIPE, stdout=PIPE
    )
    printed, _ = await process.communicate(typed)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return printed


@by_hand.domain("dom0")
async def dom0(xen: Domain) -> None:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    async with asyncio.timeout(PATIENCE):
        assert await command("listen", "guest", f"{home}/up") == MUCH
        await command("connect", str(guest), f"{home}/down", typed=MUCH)


@by_hand.domain("guest")
async def guest(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        await command("connect", "dom0", "data/up", typed=MUCH)
        assert await command("listen", "--receive-ring", "65536", "0", "data/down") == MUCH


short = Scenario("a file goes to a guest by hand")


@short.domain("dom0")
async def speaks_by_hand(xen: Domain) -> None:
    guest = await xen.find("guest")
    async with asyncio.timeout(PATIENCE):
        await command("connect", str(guest), f"/local/domain/{guest}/data/short", typed=MUCH)


@short.domain("guest")
async def hears_by_hand(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        assert await command("listen", "0", "data/short") == MUCH


unread = Scenario("a vchan whose output nobody reads any more is left without a word")


@unread.domain("dom0")
async def is_not_read(xen: Domain) -> None:
    guest = await xen.find("guest")
    reader, writer = os.pipe()
    os.close(reader)
    words = ("listen", "guest", f"/local/domain/{guest}/data/unread")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=DEVNULL, stdout=writer, stderr=PIPE
    )
    os.close(writer)
    async with asyncio.timeout(PATIENCE):
        _, complaint = await process.communicate()
    assert (process.returncode, complaint) == (141, b"")


@unread.domain("guest")
async def speaks(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE), await vchan.connect(xen, 0, "data/unread") as stream:
        await stream.send(b"hello")
        with suppress(EndOfStream):
            await stream.receive()
