"""As much between our own two ends as between one of them and Linux's, or libxenvchan's.

In a short form, and in a long one: a disk of 8 MiB and ten thousand reads and writes, 16 MiB of
frames, 64 MiB each way over a vchan.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from random import Random

import block
import net_world
import vchan
from anyio import EndOfStream
from disk_model import check, digest
from much import exchange
from net_world import ALL, World, frame

from activations import Domain, Scenario
from activations.drivers.block import Disk, MemoryDisk
from activations.drivers.block import serve as serve_disk
from activations.drivers.net import Nic
from activations.vchan import VchanStream
from activations.xenbus import Device

MIB = 1 << 20
RING = 1 << 18


# A disk


def content(size: int) -> bytes:
    return Random(1).randbytes(size)


def disk_rule(name: str, size: int, use: Callable[[Disk], Awaitable[None]]) -> Scenario:
    async def serve(xen: Domain, device: Device) -> None:
        async with serve_disk(xen, device, MemoryDisk(content(size))):
            await block.done(xen, device)

    async def run(xen: Domain, disk: Disk) -> None:
        assert disk.size == size
        await use(disk)

    return block.two(name, serve, block.using(run))


async def read_it_all(disk: Disk) -> None:
    assert await digest(disk, disk.size) == sha256(content(disk.size)).hexdigest()


def so_often(operations: int) -> Callable[[Disk], Awaitable[None]]:
    return partial(check, operations=operations, tasks=32, most=8)


same_bytes = disk_rule("the same bytes on either side", MIB, read_it_all)
same_bytes_long = disk_rule("long: the same 8 MiB on either side", 8 * MIB, read_it_all)
model = disk_rule("reads and writes agree with a model", MIB, so_often(300))
model_long = disk_rule(
    "long: ten thousand reads and writes agree with a model", 8 * MIB, so_often(10_000)
)


# Frames

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


def datagrams(size: int) -> Iterator[bytes]:
    """As many as make up `size` bytes, of 1,400 and 8,000 by turns."""
    random, left, piece = Random(1), size, 1400
    while left > 0:
        yield random.randbytes(piece)
        left -= piece
        piece = 9400 - piece


async def send_all(size: int, send: Send, to: bytes, by: bytes) -> None:
    for data in datagrams(size):
        await send(frame(to, by, data))


async def receive_all(size: int, receive: Receive) -> None:
    for data in datagrams(size):
        assert net_world.data_of(await receive()) == data


def to_the_guest(name: str, size: int) -> Scenario:
    async def wire_sends(world: World) -> None:
        await send_all(size, world.wire.send, ALL, net_world.DOM0)

    async def card_receives(xen: Domain, nic: Nic) -> None:
        await receive_all(size, nic.receive)
        assert (nic.statistics().bad, nic.statistics().lost) == (0, 0)

    return net_world.two(name, wire_sends, card_receives)


def from_the_guest(name: str, size: int) -> Scenario:
    async def wire_receives(world: World) -> None:
        await receive_all(size, world.wire.receive)

    async def card_sends(xen: Domain, nic: Nic) -> None:
        await send_all(size, nic.send, net_world.DOM0, nic.mac)

    return net_world.two(name, wire_receives, card_sends)


received = to_the_guest("256 KiB of frames come to the guest", MIB // 4)
received_long = to_the_guest("long: 16 MiB of frames come to the guest", 16 * MIB)
sent = from_the_guest("256 KiB of frames come from the guest", MIB // 4)
sent_long = from_the_guest("long: 16 MiB of frames come from the guest", 16 * MIB)


# A vchan


def exchange_rule(name: str, size: int, *, server_leaves: bool) -> Scenario:
    """What either end sent is what the other heard; then one leaves, and the other sees it."""

    async def leave(xen: Domain, stream: VchanStream) -> None:
        await exchange_much(xen.domid, stream, size)

    async def see_the_other_leave(xen: Domain, stream: VchanStream) -> None:
        await exchange_much(xen.domid, stream, size)
        with suppress(EndOfStream):
            raise AssertionError(f"more came than was sent: {await stream.receive()!r}")

    ends = (leave, see_the_other_leave) if server_leaves else (see_the_other_leave, leave)
    return vchan.two(name, *ends, left=RING, right=RING)


async def exchange_much(seed: int, stream: VchanStream, size: int) -> None:
    sums = await exchange(seed, stream.send, stream.receive, size)
    for own, others in (("sent", "heard"), ("heard", "sent")):
        await stream.send(sums[own].encode())
        assert await vchan.received(stream, 64) == sums[others].encode()


server_leaves = exchange_rule("1 MiB each way, then the server leaves", MIB, server_leaves=True)
server_leaves_long = exchange_rule(
    "long: 64 MiB each way, then the server leaves", 64 * MIB, server_leaves=True
)
client_leaves = exchange_rule("1 MiB each way, then the client leaves", MIB, server_leaves=False)
client_leaves_long = exchange_rule(
    "long: 64 MiB each way, then the client leaves", 64 * MIB, server_leaves=False
)
