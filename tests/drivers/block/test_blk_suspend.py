"""A disk outlives a suspend of its front end's domain, or its back end's, or both, at any point:
what was in flight is done after it, and callers just wait longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.parameters import one_in

from activations import Domain
from activations.drivers import block
from activations.drivers.block import Disk, FileDisk, MemoryDisk
from activations.drivers.block.disks import Buffers, ServedDisk
from activations.xenbus import Device, front_device, plug, unplug
from xen_sim import Machine

SIZE = 1 << 19
SECTORS = SIZE // 512
TASKS = 8
MOMENTS = one_in(3, [*range(0, 320, 8), *range(320, 3600, 160)])
"""Turns of a loop before a suspend: there is a disk after 310, and all is done after 3600."""


class Hesitant(MemoryDisk):
    """Does some of what it is asked at once and the rest later, so that much is under way."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(SIZE)
        self._random = Random(seed)

    def read_into(self, offset: int, buffers: Buffers) -> Any:
        return self._soon(super().read_into, offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Any:
        return self._soon(super().write, offset, buffers)

    def _soon(self, work: Callable[..., object], *args: Any) -> Awaitable[None] | None:
        delay = self._random.choice([0, 0, 1e-6, 1e-3])
        if delay:
            return self._later(delay, work, *args)
        work(*args)
        return None

    async def _later(self, delay: float, work: Callable[..., object], *args: Any) -> None:
        await asyncio.sleep(delay)
        work(*args)


async def write_and_read(disk: Disk, rounds: int = 6) -> None:
    """Several tasks at once, each with a part of the disk: what was written has to be read."""

    async def use(part: int) -> None:
        random = Random(part)
        most = SECTORS // TASKS
        for _ in range(rounds):
            sectors = random.randrange(1, most)
            offset = (part * most + random.randrange(most - sectors)) * 512
            data = random.randbytes(sectors * 512)
            await disk.write(offset, data)
            if random.random() < 0.3:
                await disk.flush()
            assert await disk.read(offset, len(data)) == data

    async with asyncio.TaskGroup() as tasks:
        for part in range(TASKS):
            tasks.create_task(use(part))


class World:
    """A disk that dom0 serves, and a guest that uses it. Either domain is suspended after so many
    turns of its loop, and after so many more."""

    def __init__(
        self, disk: ServedDisk, *, dom0: list[int], guest: list[int], seed: int | None = None
    ) -> None:
        self.disk = disk
        self.done = False
        self.moments = {"dom0": dom0, "guest": guest}
        self.machine = Machine(seed=seed, explore=bool((seed or 0) % 2))
        self.machine.boot("dom0", self._dom0)
        self.machine.boot("guest", self._guest)

    def run(self, use: Callable[[Disk], Awaitable[Any]] = write_and_read, **options: Any) -> Any:
        """What `use` gives."""
        self.use, self.options = use, options
        return self.machine.run()["guest"]

    async def _dom0(self, xen: Domain) -> None:
        device = Device("vbd", 51712, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._suspend(xen))
            async with block.serve(xen, device, self.disk):
                while not self.done:
                    await asyncio.sleep(0.1)
        assert not xen.grants.open
        await unplug(xen, device)

    async def _guest(self, xen: Domain) -> Any:
        device = await front_device(xen, "vbd", 51712)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._suspend(xen))
            async with block.open(xen, device, within=60, **self.options) as disk:
                result = await self.use(disk)
        assert not xen.grants.open
        self.done = True
        return result

    async def _suspend(self, xen: Domain) -> None:
        for turns in self.moments[xen.name]:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.machine.suspend(xen.loop)
        assert xen.generation == len(self.moments[xen.name])


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("who", ["dom0", "guest"])
def test_callers_just_wait_longer(who: str, moment: int) -> None:
    moments = {"dom0": [], "guest": [], who: [moment]}
    World(Hesitant(), **moments).run()


@pytest.mark.parametrize("seed", one_in(3, range(40)))
def test_both_may_be_suspended_time_and_again_in_any_order(seed: int) -> None:
    random = Random(seed)
    dom0, guest = ([random.randrange(900) for _ in range(random.randrange(7))] for _ in range(2))
    options = random.choice(
        [{}, {"queues": 3}, {"pages": 4}, {"persistent": False}, {"ring_order": 0}]
    )
    World(Hesitant(seed), dom0=dom0, guest=guest, seed=seed).run(**options)


@pytest.mark.parametrize("who", ["dom0", "guest"])
def test_a_file_is_served_on(who: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(SIZE))
    with FileDisk(image) as disk:
        World(disk, **{"dom0": [], "guest": [], who: [1000, 500]}).run()


def test_a_disk_that_nobody_uses_at_the_time_is_there_afterwards() -> None:
    async def use(disk: Disk) -> bytes:
        await disk.write(512, b"x" * 512)
        await asyncio.sleep(10)
        return await disk.read(0, 1536)

    held = World(MemoryDisk(SIZE), dom0=[], guest=[4000]).run(use)
    assert held == bytes(512) + b"x" * 512 + bytes(512)
