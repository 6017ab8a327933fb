"""As much between our own two ends as between one of them and Linux's, or libxenvchan's.

A disk of 8 MiB and ten thousand reads and writes, 16 MiB of frames, 64 MiB each way over a vchan.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from random import Random

import block
import net_world
import vchan
from anyio import EndOfStream
from disk_model import check, digest
from much import exchange
from net_world import ALL, World, frame

from activations import Domain
from activations.drivers.block import Disk, MemoryDisk
from activations.drivers.block import back as blkback
from activations.drivers.net import Nic
from activations.vchan import VchanStream
from activations.xenbus import Device

DISK = 8 << 20
FRAMES = 16 << 20
RING = 1 << 18


# A disk


async def serve_a_disk(xen: Domain, device: Device) -> None:
    async with blkback.serve(xen, device, MemoryDisk(Random(1).randbytes(DISK))):
        await block.done(xen, device)


async def read_it_all(xen: Domain, disk: Disk) -> None:
    assert await digest(disk, disk.size) == sha256(Random(1).randbytes(DISK)).hexdigest()


async def use_it_ten_thousand_times(xen: Domain, disk: Disk) -> None:
    await check(disk, 10_000, tasks=32, most=8)


same_bytes = block.two("the same bytes on either side", serve_a_disk, block.using(read_it_all))
model = block.two(
    "ten thousand reads and writes agree with a model",
    serve_a_disk,
    block.using(use_it_ten_thousand_times),
)


# Frames

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


def datagrams() -> Iterator[bytes]:
    """As many as make up `FRAMES` bytes, of 1,400 and 8,000 by turns."""
    random, left, size = Random(1), FRAMES, 1400
    while left > 0:
        yield random.randbytes(size)
        left -= size
        size = 9400 - size


async def send_all(send: Send, to: bytes, by: bytes) -> None:
    for data in datagrams():
        await send(frame(to, by, data))


async def receive_all(receive: Receive) -> None:
    for data in datagrams():
        assert net_world.data_of(await receive()) == data


async def wire_sends(world: World) -> None:
    await send_all(world.wire.send, ALL, net_world.DOM0)


async def card_receives(xen: Domain, nic: Nic) -> None:
    await receive_all(nic.receive)
    assert (nic.figures.bad, nic.figures.lost) == (0, 0)


async def wire_receives(world: World) -> None:
    await receive_all(world.wire.receive)


async def card_sends(xen: Domain, nic: Nic) -> None:
    await send_all(nic.send, net_world.DOM0, nic.mac)


to_the_guest = net_world.two("16 MiB of frames come to the guest", wire_sends, card_receives)
from_the_guest = net_world.two("16 MiB of frames come from the guest", wire_receives, card_sends)


# A vchan


async def exchange_then_leave(xen: Domain, stream: VchanStream) -> None:
    await exchange_much(xen.domid, stream)


async def exchange_then_see_the_other_leave(xen: Domain, stream: VchanStream) -> None:
    await exchange_much(xen.domid, stream)
    with suppress(EndOfStream):
        raise AssertionError(f"more came than was sent: {await stream.receive()!r}")


async def exchange_much(seed: int, stream: VchanStream) -> None:
    """What either end sent is what the other heard."""
    sums = await exchange(seed, stream.send, stream.receive)
    for own, others in (("sent", "heard"), ("heard", "sent")):
        await stream.send(sums[own].encode())
        assert await vchan.received(stream, 64) == sums[others].encode()


server_leaves = vchan.two(
    "64 MiB each way, then the server leaves",
    exchange_then_leave,
    exchange_then_see_the_other_leave,
    left=RING,
    right=RING,
)
client_leaves = vchan.two(
    "64 MiB each way, then the client leaves",
    exchange_then_see_the_other_leave,
    exchange_then_leave,
    left=RING,
    right=RING,
)
