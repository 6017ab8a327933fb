"""Disks that are slow, fail and lose their power, and packets that are lost, doubled and overtaken:
each fault finds the guest that rests on its never happening, and leaves alone the one that stands
it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from support.drawn import by_turns
from support.faulty import assert_found, two

from activations import Domain
from activations.drivers import block, net
from activations.drivers.block import faulty as disk_faults
from activations.drivers.net import faulty as wire_faults
from activations.promises import always
from activations.store import StoreClosed
from activations.xenbus import Device, front_device, plug
from xen_sim.explore.programs import Programs
from xen_sim.faults.swarm import Swarm
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

XVDA = block.devid_of("xvda")
SECTOR = 512
BLANK, ONE, TWO = bytes(SECTOR), b"1" * SECTOR, b"2" * SECTOR
MAC = "00:16:3e:00:00:01"
FRAME = bytes(12) + b"\x88\xb5"


# A disk


def with_a_disk(use: Callable[[block.Disk], Awaitable[None]]) -> Programs:
    async def dom0(xen: Domain) -> None:
        device = Device("vbd", XVDA, await xen.find("guest"), xen.domid)
        await plug(xen, device, front={"virtual-device": XVDA, "device-type": "disk"})
        async with block.serve(xen, device, block.MemoryDisk(8 * SECTOR)) as end:
            await end.finished()

    async def guest(xen: Domain) -> None:
        async with block.open(xen, await found(xen, "vbd", XVDA)) as disk:
            await use(disk)

    return two(guest, dom0)


async def found(xen: Domain, kind: str, devid: int) -> Device:
    """The guest's device, however often its store goes meanwhile."""
    while True:
        with suppress(StoreClosed):
            return await front_device(xen, kind, devid)


async def reads_within_5_ms(disk: block.Disk) -> None:
    async with asyncio.timeout(0.005):
        await disk.read(0, SECTOR)


async def reads(disk: block.Disk) -> None:
    await disk.read(0, SECTOR)


async def tries_each_write_again_and_flushes_last(disk: block.Disk) -> None:
    """What was lost was not the write that failed."""
    for number, data in enumerate((ONE, TWO)):
        await until_done(lambda at=number * SECTOR, data=data: disk.write(at, data))
    await until_done(disk.flush)
    always(await disk.read(0, 2 * SECTOR) == ONE + TWO, "what was flushed is there")


async def until_done(operation: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        with suppress(block.DiskError):
            return await operation()


async def holds_a_write_for_whole(disk: block.Disk) -> None:
    with suppress(block.DiskError):
        await disk.write(0, ONE + ONE)
        await disk.flush()
    one, other = [await until_done(lambda at=at: disk.read(at, SECTOR)) for at in (0, SECTOR)]
    always(one == other, "both sectors or neither")


async def writes_all_of_it_again(disk: block.Disk) -> None:
    async def whole() -> None:
        await disk.write(0, ONE)
        await disk.write(SECTOR, TWO)
        await disk.flush()

    await until_done(whole)
    held = await until_done(lambda: disk.read(0, 2 * SECTOR))
    always(held == ONE + TWO, "what was flushed is there")


def test_a_disk_is_asked_for_whole_sectors_of_its_own() -> None:
    """What it held before a write is looked at too."""
    asked: list[tuple[int, int]] = []

    class Large:
        def read(self, offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return bytes(length)

        def write(self, offset: int, data: bytes) -> None:
            pass

    disk = disk_faults.FaultyDisk(block.ObjectDisk(Large(), 1 << 16, sector_size=4096))
    asyncio.run(disk.write(4096, [memoryview(bytes(8192))]))
    assert asked == [(4096, 4096), (8192, 4096)]


# A wire


def with_an_interface(use: Callable[[net.Nic], Awaitable[None]]) -> Programs:
    async def dom0(xen: Domain) -> None:
        device = Device("vif", 0, await xen.find("guest"), xen.domid)
        await plug(xen, device, front={"mac": MAC, "handle": 0})
        wire, far = net.cable()
        echoes = asyncio.create_task(net.join(far, Mirror()))
        async with net.serve(xen, device, wire) as end:
            await end.finished()
        echoes.cancel()

    async def guest(xen: Domain) -> None:
        async with net.open(xen, await found(xen, "vif", 0)) as nic:
            await use(nic)

    return two(guest, dom0)


class Mirror:
    """Sends back what it is sent."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        self._frames.put_nowait(frame)

    async def receive(self) -> bytes:
        return await self._frames.get()

    def receive_nowait(self) -> bytes | None:
        return None if self._frames.empty() else self._frames.get_nowait()


def frame(number: int) -> bytes:
    return FRAME + bytes([number]) * 46


async def sends_once(nic: net.Nic) -> None:
    await nic.send(frame(1))
    await nic.receive()


async def takes_each_frame_for_an_answer(nic: net.Nic) -> None:
    for number in (1, 2, 3):
        await nic.send(frame(number))
        always(await nic.receive() == frame(number), "the answer is to the last question")


async def takes_them_in_order(nic: net.Nic) -> None:
    for number in (1, 2, 3):
        await nic.send(frame(number))
    heard = [await nic.receive() for _ in range(3)]
    always(heard == sorted(heard), "in order")


async def asks_until_it_is_answered(nic: net.Nic) -> None:
    for number in (1, 2, 3):
        while True:
            await nic.send(frame(number))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    while await nic.receive() != frame(number):
                        pass
                break


Make = Callable[[Callable[[Any], Awaitable[None]]], Programs]
WEAK: dict[str, tuple[Make, Callable[[Any], Awaitable[None]]]] = {
    "disks:slow": (with_a_disk, reads_within_5_ms),
    "disks:failing": (with_a_disk, reads),
    "disks:power cut": (with_a_disk, tries_each_write_again_and_flushes_last),
    "disks:torn by a power cut": (with_a_disk, holds_a_write_for_whole),
    "packets:lost": (with_an_interface, sends_once),
    "packets:doubled": (with_an_interface, takes_each_frame_for_an_answer),
    "packets:overtaken": (with_an_interface, takes_them_in_order),
}


class Once(Tape):
    """The ordinary course, but for one fault: the first that is asked for behind so many."""

    def __init__(self, behind: int) -> None:
        self._behind = behind

    def choose(self, choice: Choice) -> int:
        if not choice.fault:
            return 0
        self._behind -= 1
        return int(self._behind == -1)


@pytest.mark.parametrize("fault", WEAK)
def test_one_fault_finds_who_rests_on_its_never_happening(fault: str) -> None:
    make, guest = WEAK[fault]
    weak = make(guest).faulty(fault)
    with weak.session():
        assert weak.run(Tape()).finding is None, "it is well where nothing goes wrong"
        assert any(weak.run(Once(behind)).finding for behind in range(5))


@pytest.mark.parametrize(
    "fault",
    [
        each if each == "packets:lost" else pytest.param(each, marks=pytest.mark.long)
        for each in WEAK
    ],
)
def test_it_is_found_and_shrunk_to_that_one_and_replayed(fault: str) -> None:
    make, guest = WEAK[fault]
    assert_found(make(guest), fault)


@pytest.mark.parametrize("kind", ["disks", "packets"])
def test_a_fault_leaves_alone_who_stands_it(kind: str) -> None:
    strong = {
        "disks": with_a_disk(writes_all_of_it_again),
        "packets": with_an_interface(asks_until_it_is_answered),
    }
    engine = strong[kind].faulty(kind)
    with engine.session():
        for seed in range(3):
            assert engine.run(Swarm(Tape(), seed)).finding is None


async def uses_it_a_while(disk: block.Disk) -> None:
    for number, data in enumerate((ONE, TWO)):
        await disk.write(number * SECTOR, data)
    always(await disk.read(0, 2 * SECTOR) == ONE + TWO, "what was written is there")


@pytest.mark.parametrize("fault", ["domains:migrated", "store:connection lost"])
@pytest.mark.parametrize("part", [2, *by_turns(4, [*range(2), *range(3, 24)])])
def test_a_disk_is_used_on_by_a_guest_that_begins_anew(fault: str, part: int) -> None:
    """Its back end does not take that for the guest's end."""
    disk = with_a_disk(uses_it_a_while).faulty(fault)
    moments = (
        range(part * 37, 5000, 24 * 37) if fault.startswith("domains") else range(part, 60, 24)
    )
    with disk.session():
        for behind in moments:
            assert disk.run(Once(behind)).finding is None, behind


def test_a_run_that_ends_within_drivers_leaves_nothing_half_closed() -> None:
    async def breaks_its_word(disk: block.Disk) -> None:
        await disk.read(0, SECTOR)
        always(False, "this run goes on")

    broken = with_a_disk(breaks_its_word)
    with broken.session():
        assert broken.run(Tape()).finding is not None
    gc.collect()  # what a coroutine raises here fails the test


def test_where_nobody_explores_what_is_served_is_what_was_given() -> None:
    disk, (wire, _) = block.MemoryDisk(SECTOR), net.cable()
    assert disk_faults.wrapped(disk) is disk
    assert wire_faults.wrapped(wire) is wire
