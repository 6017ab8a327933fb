"""A Python end in a guest, an end on libxenvchan in dom0: for test_vchan_libxenvchan.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from random import Random
from typing import Any

from anyio import EndOfStream
from much import MUCH, exchange
from patience import patience

from activations import Domain, Scenario, vchan
from activations.vchan import VchanStream

PROGRAM = "/tmp/vchan_peer"
KEY = "data/libxenvchan"
LESS, TOTAL = 30_011, 1 << 20
MORE = 1 << 21
LONG = "long: "
SAID = 5000
BIG = 1 << 18
PATIENCE = patience(240)

Use = Callable[[VchanStream], Awaitable[Any]]


async def in_c(*arguments: object) -> int:
    """Run the program; give the number it prints."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"the program ended with {process.returncode}"
    return int(output)


@asynccontextmanager
async def served(xen: Domain, left: int, right: int) -> Any:
    async with vchan.listen(xen, 0, KEY, left=left, right=right) as listener:
        stream = await listener.accept()
    async with stream:
        yield stream


@asynccontextmanager
async def called(xen: Domain, left: int, right: int) -> Any:
    async with await vchan.connect(xen, 0, KEY) as stream:
        yield stream


def hear_an_echo(size: int) -> Use:
    """All comes back, sent and received at once, in pieces of every size."""

    async def hear(stream: VchanStream) -> None:
        random = Random(1)
        data = random.randbytes(size)

        async def send() -> None:
            at = 0
            while at < size:
                piece = random.randint(1, 20_000)
                await stream.send(data[at : at + piece])
                at += piece

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            back = bytearray()
            while len(back) < size:
                back += await stream.receive()
        assert back == data

    return hear


def hear_much(size: int, *, to_the_end: bool = False) -> Use:
    """All comes back, and is known by its sum; then C closes its end, if this end waits for it."""

    async def hear(stream: VchanStream) -> None:
        sums = await exchange(1, stream.send, stream.receive, size)
        assert sums["heard"] == sums["sent"]
        if to_the_end:
            with suppress(EndOfStream):
                assert not await stream.receive(), "nothing more was sent"

    return hear


async def hear_it_all(stream: VchanStream) -> None:
    heard = bytearray()
    try:
        while True:
            heard += await stream.receive()
    except EndOfStream:
        pass
    assert heard == bytes(at & 0xFF for at in range(SAID))


def against_c(role: str, left: int, right: int, use: Use, *said: object, sent: int) -> Scenario:
    """`role` is the C program's; the guest's end is of the other kind, and says how many seconds
    it took."""
    told = "_".join(map(str, said))
    form = LONG if sent in (TOTAL, MUCH) else ""
    scenario = Scenario(f"{form}{told}_of_{sent}_by_a_{role}_in_C_with_{left}_and_{right}")
    mine: Callable[[Domain, int, int], AbstractAsyncContextManager[VchanStream]]
    mine = called if role == "server" else served

    async def dom0(xen: Domain) -> int:
        guest = await xen.find("guest")
        path = f"/local/domain/{guest}/{KEY}"
        await xen.store.write("/local/domain/0/domid", 0)  # where libxenvchan looks
        async with asyncio.timeout(PATIENCE):
            if role == "client":
                await xen.store.wait_for(f"{path}/event-channel")
            count = await in_c(role, guest, path, left, right, *said)
        assert count == sent, count
        return count

    async def guest(xen: Domain) -> float:
        async with asyncio.timeout(PATIENCE), mine(xen, left, right) as stream:
            start = xen.loop.time()
            await use(stream)
            seconds = xen.loop.time() - start
        assert not xen.grants.open
        return seconds

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


def echoed(role: str, left: int, right: int, size: int) -> Scenario:
    return against_c(role, left, right, hear_an_echo(size), "echo", sent=size)


client_10_11 = echoed("client", 1024, 2048, LESS)
client_12_13 = echoed("client", 4096, 8192, LESS)
server_11_10 = echoed("server", 2048, 1024, LESS)
server_14_11 = echoed("server", 16384, 2048, LESS)
client_10_11_long = echoed("client", 1024, 2048, TOTAL)
client_12_13_long = echoed("client", 4096, 8192, TOTAL)
server_11_10_long = echoed("server", 2048, 1024, TOTAL)
server_14_11_long = echoed("server", 16384, 2048, TOTAL)
more_to_a_client = against_c("client", BIG, BIG, hear_much(MORE), "echo", sent=MORE)
more_to_a_server = against_c(
    "server", BIG, BIG, hear_much(MORE, to_the_end=True), "echo", MORE, sent=MORE
)
much_to_a_client = against_c("client", BIG, BIG, hear_much(MUCH), "echo", sent=MUCH)
much_to_a_server = against_c(
    "server", BIG, BIG, hear_much(MUCH, to_the_end=True), "echo", MUCH, sent=MUCH
)
client_says = against_c("client", 1024, 1024, hear_it_all, "say", SAID, sent=SAID)
server_says = against_c("server", 1024, 1024, hear_it_all, "say", SAID, sent=SAID)
