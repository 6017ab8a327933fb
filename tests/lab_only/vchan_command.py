"""`activations vchan`, as a process in dom0 and one in a guest."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from random import Random

from activations import Domain, Scenario

COMMAND = ("activations", "vchan")
MUCH = Random(1).randbytes(3_000_001)
PATIENCE = 120

by_hand = Scenario("files go both ways by hand")


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
