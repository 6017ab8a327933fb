"""What holds of a block front end on a simulated Xen and on a real one alike, its back end being
one by hand that does what no proper one would, or ours."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from struct import pack_into
from typing import Any

from patience import patience
from raw_block import KEYS, SECTORS, RawBack, Serve, honest

from activations import Domain, Scenario
from activations.abi import ring as ring_abi
from activations.abi.blkif import Op
from activations.abi.xenbus import XenbusState as State
from activations.drivers import block
from activations.drivers.block import Disk, DiskError, DiskGone
from activations.xenbus import (
    BackEnd,
    Device,
    HandshakeTimeout,
    Written,
    front_device,
    plug,
    unplug,
)
from activations.xenbus.keys import read_keys

DEVID = 51712
SERVED_AS = "rules"
"""So that no driver of dom0's kernel takes the device for its own."""
PATIENCE = patience(240)
MANY = 32

Use = Callable[[Domain, Disk], Awaitable[Any]]
Run = Callable[[Domain], Awaitable[Any]]


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


async def new_device(xen: Domain) -> Device:
    device = Device("vbd", DEVID, await xen.find("guest"), xen.domid, SERVED_AS)
    await plug(xen, device)
    return device


def two(name: str, serve: Callable[[Domain, Device], Awaitable[Any]], run: Run) -> Scenario:
    """A scenario in which dom0 makes a device and serves it until the guest is done with it.
    Nothing may be left open in the guest."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        async with asyncio.timeout(PATIENCE):
            device = await new_device(xen)
            await serve(xen, device)
            await xen.store.write(f"/local/domain/{device.front}/data/seen", 1)

    async def guest(xen: Domain) -> None:
        _ = xen.store
        before = set(xen.events.ports)
        async with asyncio.timeout(PATIENCE):
            await run(xen)
        assert set(xen.events.ports) == before
        assert not xen.grants.open
        await xen.store.write("data/done", 1)
        await xen.store.wait_for("data/seen")  # what it wrote goes with it

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


async def done(xen: Domain, device: Device) -> None:
    """Wait until the guest is done."""
    await xen.store.wait_for(f"/local/domain/{device.front}/data/done")


@asynccontextmanager
async def opened(xen: Domain, **options: Any) -> AsyncIterator[Disk]:
    device = await front_device(xen, "vbd", DEVID)
    async with block.open(xen, device, within=PATIENCE, **options) as disk:
        yield disk


def using(use: Use, **options: Any) -> Run:
    """A guest's half that uses the disk."""

    async def run(xen: Domain) -> None:
        async with opened(xen, **options) as disk:
            await use(xen, disk)

    return run


def raw(
    do: Serve, *, offers: Written | None = None, keys: Written = KEYS
) -> Callable[[Domain, Device], Awaitable[Any]]:
    """dom0's half with a back end by hand, until the guest has done."""

    async def serve(xen: Domain, device: Device) -> None:
        async with BackEnd(xen, device, RawBack(xen, device, do, offers=offers, keys=keys)):
            await done(xen, device)

    return serve


async def refusal(attempt: Awaitable[object], kind: type[Exception]) -> Exception:
    """The error with which an attempt has to fail."""
    try:
        await attempt
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


# Reading and writing, and what is refused before it comes to the back end


async def write_and_read(xen: Domain, disk: Disk) -> None:
    data = noise(40_960)
    await disk.write(512, data)
    assert await disk.read(512, len(data)) == data
    part = bytearray(1024)
    await disk.read_into(1024, part)
    assert part == data[512:1536]
    assert await disk.read(0, 0) == b""
    await disk.flush()


by_hand = two("what was written is read again", raw(honest), using(write_and_read))


async def ask_nonsense(xen: Domain, disk: Disk) -> None:
    assert (disk.size, disk.sectors, disk.sector_size) == (SECTORS * 512, SECTORS, 512)
    for attempt, said in [
        (disk.read(100, 512), "512 bytes at 100: both have to be multiples of 512"),
        (disk.write(0, b"short"), "5 bytes at 0"),
        (disk.read(-512, 512), "neither can be negative"),
        (disk.read(0, disk.size + 512), f"end beyond the disk's {disk.size} bytes"),
        (disk.read(0, 1 << 62), "end beyond"),
        (disk.read_into(0, bytes(512)), "cannot be written to"),
    ]:
        assert said in str(await refusal(attempt, ValueError))
    refused = await refusal(disk.discard(0, 512), DiskError)
    assert isinstance(refused, OSError)
    assert refused.errno == errno.EOPNOTSUPP


nonsense = two("what does not fit the disk is refused in words", raw(honest), using(ask_nonsense))


async def try_to_write(xen: Domain, disk: Disk) -> None:
    assert disk.read_only
    for attempt in (partial(disk.write, 0, bytes(512)), partial(disk.discard, 0, 512)):
        refused = await refusal(attempt(), DiskError)
        assert isinstance(refused, OSError)
        assert refused.errno == errno.EROFS
    assert await disk.read(0, 512) == bytes(512)


read_only = two(
    "a disk that is read-only is not written to",
    raw(honest, keys={**KEYS, "info": 4}),
    using(try_to_write),
)


async def ask_for_sectors_of_4096(xen: Domain, disk: Disk) -> None:
    assert "multiples of 4096" in str(await refusal(disk.read(512, 512), ValueError))
    assert await disk.read(4096, 4096) == bytes(4096)


large_sectors = two(
    "requests are aligned to the disk's own sectors",
    raw(honest, keys={**KEYS, "sector-size": 4096}),
    using(ask_for_sectors_of_4096),
)


# Answers


async def fail_in_turn(back: RawBack) -> None:
    for status in (-1, -2, 55, -32768):
        request = await back.request()
        assert not hasattr(request, "sectors")
        back.answer(request.id, request.op, status)
    await honest(back)


async def hear_of_failures(xen: Domain, disk: Disk) -> None:
    for number in (errno.EIO, errno.EOPNOTSUPP, errno.EIO, errno.EIO):
        failed = await refusal(disk.write(0, bytes(512)), DiskError)
        assert isinstance(failed, OSError)
        assert failed.errno == number, failed
    assert await disk.read(0, 512) == bytes(512)


failures = two(
    "an answer that is an error is one, whatever number it is",
    raw(fail_in_turn),
    using(hear_of_failures),
)


async def answer_backwards(back: RawBack) -> None:
    while True:
        requests = [await back.request() for _ in range(MANY)]
        for request in reversed(requests):
            back.carry_out(request)


async def ask_at_once(xen: Domain, disk: Disk) -> None:
    sectors = [noise(512, number) for number in range(MANY)]
    async with asyncio.TaskGroup() as group:
        for number, data in enumerate(sectors):
            group.create_task(disk.write(number * 512, data))
    async with asyncio.TaskGroup() as group:
        read = [group.create_task(disk.read(number * 512, 512)) for number in range(MANY)]
    assert [task.result() for task in read] == sectors


backwards = two("answers may come in any order", raw(answer_backwards), using(ask_at_once))


# Who waits no more


async def answer_when_told(back: RawBack) -> None:
    requests = [await back.request() for _ in range(4)]
    await back.store.wait_for(f"{back.home}/data/go-on")
    for request in requests:
        back.carry_out(request)
    await honest(back)


async def give_up_waiting(xen: Domain, disk: Disk) -> None:
    """Two pages, which the back end has; then one who waits in line is cancelled too."""
    into = bytearray(1024)
    tasks = [asyncio.ensure_future(disk.read_into(0, into)) for _ in range(6)]
    await asyncio.sleep(0.1)
    for task in tasks[:5]:
        task.cancel()
    await asyncio.wait(tasks[:5])
    into.extend(b"nobody holds the memory of those who gave up"[:0])
    await xen.store.write("data/go-on", 1)
    await tasks[5]
    assert await disk.read(0, 4096) == bytes(4096)


gives_up = two(
    "who is cancelled leaves nothing behind", raw(answer_when_told), using(give_up_waiting, pages=4)
)


# Back ends that break the rules


async def answer_nothing_asked(back: RawBack) -> None:
    await back.request()
    back.answer(12345, Op.READ)


async def answer_twice(back: RawBack) -> None:
    first, _ = await back.request(), await back.request()
    back.answer(first.id, Op.READ)
    back.answer(first.id, Op.READ)


async def answer_another_operation(back: RawBack) -> None:
    request = await back.request()
    back.answer(request.id, Op.WRITE)


async def run_ahead(back: RawBack) -> None:
    await back.request()
    pack_into("<I", back.memory, ring_abi.RSP_PROD, 1000)
    back.port.notify()


async def scribble(back: RawBack) -> None:
    await back.request()
    back.memory[:] = noise(len(back.memory))
    back.port.notify()


def told_why(*said: str) -> Run:
    """A guest's half in which all who wait are told, and those who come later too."""

    async def run(xen: Domain) -> None:
        async with opened(xen) as disk:
            waiting = [asyncio.ensure_future(disk.read(n * 512, 512)) for n in range(4)]
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            gone = [error for error in errors if isinstance(error, DiskGone)]
            assert gone, errors
            assert any(part in str(gone[0]) for part in said), gone[0]
            assert gone[0].errno == errno.ENODEV
            await refusal(disk.read(0, 512), DiskGone)

    return run


nothing_asked = two(
    "an answer to nothing closes the device",
    raw(answer_nothing_asked),
    told_why("answers request 0x3039, which is not in flight"),
)
twice = two(
    "an answer given twice closes the device", raw(answer_twice), told_why("which is not in flight")
)
another_operation = two(
    "an answer to another operation closes the device",
    raw(answer_another_operation),
    told_why("READ, as operation 1"),
)
ahead = two(
    "a producer that runs ahead closes the device",
    raw(run_ahead),
    told_why("1000 responses to"),
)
scribbles = two(
    "a ring full of noise closes the device",
    raw(scribble),
    told_why("responses to", "not in flight", "as operation"),
)


def cannot_open(*said: str) -> Run:
    async def run(xen: Domain) -> None:
        device = await front_device(xen, "vbd", DEVID)

        async def use() -> None:
            async with block.open(xen, device, within=PATIENCE):
                raise AssertionError("there is a disk")

        error = await refusal(use(), DiskGone)
        for part in said:
            assert part in str(error), error

    return run


def without(name: str) -> Written:
    return {key: value for key, value in KEYS.items() if key != name}


no_sectors = two(
    "a disk without a size is none",
    raw(honest, keys=without("sectors")),
    cannot_open("has no key sectors"),
)
no_number = two(
    "a size that is no number is none",
    raw(honest, keys={**KEYS, "sectors": "many"}),
    cannot_open("sectors = 'many', which is not a number"),
)
huge = two(
    "a size that is beyond all disks is none",
    raw(honest, keys={**KEYS, "sectors": 1 << 60}),
    cannot_open(f"sectors = '{1 << 60}'"),
)
odd_sector = two(
    "sectors of an odd size are refused",
    raw(honest, keys={**KEYS, "sector-size": 513}),
    cannot_open("sectors of 513 bytes: that must be a power of two"),
)
odd_order = two(
    "an offer that is no number is refused",
    raw(honest, offers={"max-ring-page-order": "-1"}),
    cannot_open("max-ring-page-order = '-1', which is not a number"),
)
large_offers = two(
    "offers of more than there can be are taken as far as that goes",
    raw(
        honest,
        offers={"max-ring-page-order": 0, "multi-queue-max-queues": 1},
        keys={**KEYS, "feature-max-indirect-segments": (1 << 32) - 1},
    ),
    using(lambda xen, disk: disk.read(0, 4096)),
)


async def changes_its_size_to(said: str, xen: Domain, device: Device) -> None:
    """While it is in use."""
    using = f"/local/domain/{device.front}/data/using"
    async with BackEnd(xen, device, RawBack(xen, device, honest)) as end:
        await xen.store.wait_for(using)
        await end.update({"sectors": said})
        await done(xen, device)


async def use_until_it_is_gone(xen: Domain) -> None:
    async with opened(xen) as disk:
        await xen.store.write("data/using", 1)

        async def use() -> None:
            while True:
                await disk.read(0, 512)
                await asyncio.sleep(0.01)

        assert "sectors = 'many', which is not a number" in str(await refusal(use(), DiskGone))


resized_to_nonsense = two(
    "a disk whose size becomes nonsense while it is in use is none any more",
    partial(changes_its_size_to, "many"),
    use_until_it_is_gone,
)


async def flood(back: RawBack) -> None:
    """As `honest`, with a thousand events besides."""

    async def ring() -> None:
        for _ in range(1000):
            back.port.notify()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ring())
        await honest(back)


async def use_while_others_run(xen: Domain, disk: Disk) -> None:
    for number in range(20):
        before = xen.loop.time()
        await asyncio.sleep(0.001)
        await disk.write(number * 512, noise(512, number))
        assert await disk.read(number * 512, 512) == noise(512, number)
        assert xen.loop.time() > before


flooded = two(
    "events without answers keep nobody from anything", raw(flood), using(use_while_others_run)
)


async def wait_for_nobody(xen: Domain) -> None:
    device = await front_device(xen, "vbd", DEVID)

    async def use() -> None:
        async with block.open(xen, device, within=0.5):
            raise AssertionError("there is a disk")

    assert "as if no program served it" in str(await refusal(use(), HandshakeTimeout))


unserved = two("a disk that nobody serves says so", done, wait_for_nobody)


# A back end that goes, and comes back


async def take_and_hold(back: RawBack) -> None:
    """The whole ring, and no answer to any."""
    for _ in range(MANY):
        await back.request()
    await back.store.write(f"{back.home}/data/held", back.served)


async def parts_in_good_order(xen: Domain, device: Device) -> None:
    held = f"/local/domain/{device.front}/data/held"
    driver = RawBack(xen, device, take_and_hold)
    async with BackEnd(xen, device, driver):
        await xen.store.wait_for(held)
    await raw(honest)(xen, device)


async def dies(xen: Domain, device: Device) -> None:
    """Its pages and ports go as a dead process's do, and xenstore says what it said before."""
    held = f"/local/domain/{device.front}/data/held"
    await first_life(xen, device, take_and_hold, held)
    await raw(honest)(xen, device)


async def first_life(xen: Domain, device: Device, do: Serve, until: str) -> None:
    """A back end without a handshake, so that it can end without one."""
    store, path = xen.store, device.back_path
    driver = RawBack(xen, device, do)
    await store.write(f"{path}/state", int(State.INIT_WAIT))
    published = str(int(State.INITIALISED))
    await store.wait_for(f"{device.front_path}/state", lambda said: said == published)
    front = await read_keys(store, "the front end", device.front_path)
    for key, value in (await driver.connect(front)).items():
        await store.write(f"{path}/{key}", value)
    await store.write(f"{path}/state", int(State.CONNECTED))
    serving = asyncio.create_task(driver.serve())
    await store.wait_for(until)
    serving.cancel()
    await asyncio.wait([serving])
    await driver.disconnect()


async def keep_asking(xen: Domain, disk: Disk) -> None:
    """As many as the ring holds, and half as many again that wait in line."""
    data = [noise(512, number) for number in range(MANY + MANY // 2)]
    async with asyncio.TaskGroup() as group:
        for number, each in enumerate(data):
            group.create_task(disk.write(number * 512, each))
    assert await disk.read(0, 512 * len(data)) == b"".join(data)


restarts = two(
    "what was in flight is done by the back end's next life",
    parts_in_good_order,
    using(keep_asking),
)
crashes = two(
    "what was in flight when a back end died is done by its next life", dies, using(keep_asking)
)


async def unplugged_meanwhile(xen: Domain, device: Device) -> None:
    async def hold(back: RawBack) -> None:
        await take_and_hold(back)

    held = f"/local/domain/{device.front}/data/held"
    async with BackEnd(xen, device, RawBack(xen, device, hold)):
        await xen.store.wait_for(held)
        await unplug(xen, device, within=PATIENCE)
        await done(xen, device)


async def wait_for_the_end(xen: Domain, disk: Disk) -> None:
    waiting = [asyncio.ensure_future(disk.read(n * 512, 512)) for n in range(MANY + 5)]
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    for error in [*errors, await refusal(disk.read(0, 512), DiskGone)]:
        assert isinstance(error, DiskGone)
        assert "unplugged" in str(error)


unplugs = two(
    "who waits for a disk that is unplugged is told", unplugged_meanwhile, using(wait_for_the_end)
)
