"""Block drivers before peers that say anything: any keys, states in any order, rings of noise.

Whatever that is, a back end closes the device or serves it, a front end gives a disk or says why
there is none; nothing stays mapped, granted or bound, and a peer that behaves at last is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawn import drawn
from support.parameters import one_in
from support.raw_blkfront import (
    DEVID,
    HANDLE,
    RawFront,
    Served,
    Slow,
    serve_until_done,
    use_front,
)

from activations import Domain
from activations.abi import blkif as abi
from activations.abi.blkif import X86_64, Op, Status
from activations.abi.xenbus import XenbusState
from activations.drivers import block
from activations.drivers.block import Disk, DiskError, MemoryDisk, ObjectDisk
from activations.drivers.block.names import devid_of, name_of
from activations.drivers.block.protocol import Request, Segment, encode_segments
from activations.errors import XenError
from activations.ring import RingError
from activations.sring import BackRing
from activations.store import StoreError
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    HandshakeTimeout,
    Keys,
    Phase,
    Written,
    XenbusError,
    front_device,
    plug,
)
from activations.xenbus.keys import read_keys
from xen_sim import Machine

SIZE = 1 << 20
SOON = 5
LATER = 60
SEEDS = [*one_in(1, range(0, 40, 4)), *drawn(6)]
EXAMPLES = pytest.mark.parametrize("examples", [50, pytest.param(300, marks=pytest.mark.long)])
"""How many draws of all keys."""

NUMBERS = st.integers(-1, 40) | st.integers(0, 1 << 64) | st.sampled_from([511, 512, 513, 4096])
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=30)
VALUES = NUMBERS.map(str) | WORDS | st.sampled_from([*abi.LAYOUTS]) | st.just("9" * 900)


def said(*names: str) -> st.SearchStrategy[dict[str, str | None]]:
    """Some of these keys, each with anything at all, or taken away."""
    return st.dictionaries(st.sampled_from(names), VALUES | st.none())


FRONT_KEYS = said(
    abi.PROTOCOL,
    abi.FEATURE_PERSISTENT,
    abi.RING_PAGE_ORDER,
    abi.NUM_QUEUES,
    abi.EVENT_CHANNEL,
    abi.RING_REF,
    *(f"{abi.RING_REF}{number}" for number in range(3)),
    *(f"queue-{number}/{name}" for number in (0, 1) for name in (abi.RING_REF, abi.EVENT_CHANNEL)),
    "queue-0",
)
OFFERS = said(abi.MAX_RING_PAGE_ORDER_KEY, abi.MAX_QUEUES, abi.FEATURE_PERSISTENT)
BACK_KEYS = said(
    abi.SECTORS,
    abi.SECTOR_SIZE_KEY,
    abi.INFO,
    abi.FEATURE_FLUSH_CACHE,
    abi.FEATURE_DISCARD,
    abi.MAX_INDIRECT_SEGMENTS,
)


def running(dom0: Any, guest: Any, *, seed: int | None = None) -> Any:
    """What dom0 gives. On every second seed domains interrupt each other anywhere."""
    machine = Machine(seed=seed, explore=bool((seed or 0) % 2))
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()["dom0"]


# Keys


@pytest.mark.once
@EXAMPLES
def test_any_keys_of_a_front_end_are_understood_or_refused(examples: int) -> None:
    @settings(max_examples=examples)
    @given(FRONT_KEYS, st.integers(0, 1), st.integers(1, 2))
    def check(says: Mapping[str, str | None], order: int, queues: int) -> None:
        connected = False

        async def use(front: RawFront) -> None:
            nonlocal connected
            connected = True

        async def guest(xen: Domain) -> None:
            with suppress(HandshakeTimeout):
                await use_front(xen, use, says=says, order=order, queues=queues, patience=SOON)
            await xen.store.write("data/done", 1)
            await asyncio.sleep(SOON)

        async def dom0(xen: Domain) -> Served:
            _ = xen.store
            before = set(xen.events.ports)
            served = await serve_until_done(xen, MemoryDisk(SIZE))
            assert not xen.grants.open
            assert set(xen.events.ports) == before
            return served

        failure = running(dom0, guest).failure
        assert connected is not bool(failure), failure

    check()


class Says(BackDriver):
    """Says this and that, and does nothing."""

    def __init__(self, offers: Written, keys: Written) -> None:
        self._offers = offers
        self._keys = keys

    async def offer(self) -> Written:
        return self._offers

    async def connect(self, front: Keys) -> Written:
        return self._keys

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        pass


def as_written(says: Mapping[str, str | None], otherwise: Written) -> Written:
    keys = {**otherwise, **says}
    return {name: value for name, value in keys.items() if value is not None}


@pytest.mark.once
@EXAMPLES
def test_any_keys_of_a_back_end_make_a_disk_or_an_error(examples: int) -> None:
    """Also those that it changes while it is in use."""

    @settings(max_examples=examples)
    @given(OFFERS, BACK_KEYS, BACK_KEYS)
    def check(
        offers: Mapping[str, str | None],
        keys: Mapping[str, str | None],
        changed: Mapping[str, str | None],
    ) -> None:
        async def dom0(xen: Domain) -> None:
            device = Device("vbd", DEVID, await xen.find("guest"), 0, "test")
            await plug(xen, device)
            driver = Says(as_written(offers, {}), as_written(keys, {abi.SECTORS: 8}))
            async with BackEnd(xen, device, driver) as end:
                with suppress(XenbusError):
                    await end.connected(within=SOON)
                    await asyncio.sleep(1)
                    await end.update(as_written(changed, {}))
                await end.reached(Phase.CLOSED, Phase.FAILED, Phase.UNPLUGGED, within=LATER)

        async def guest(xen: Domain) -> None:
            device = await front_device(xen, "vbd", DEVID)
            before = set(xen.events.ports)
            with suppress(DiskError, HandshakeTimeout):
                async with block.open(xen, device, within=SOON, pages=8) as disk:
                    is_sensible(disk)
                    await asyncio.sleep(2)
                    is_sensible(disk)
                    with suppress(TimeoutError, ValueError):
                        async with asyncio.timeout(1):
                            await disk.read(0, disk.sector_size)
            assert not xen.grants.open
            assert set(xen.events.ports) == before
            await asyncio.sleep(SOON)

        running(dom0, guest)

    check()


def is_sensible(disk: Disk) -> None:
    assert 0 <= disk.size < 1 << 63
    assert disk.sector_size in [512 << order for order in range(11)]


@given(st.text() | st.from_regex(r"xvd[a-z]{1,6}[0-9]{0,4}", fullmatch=True))
def test_any_text_is_the_name_of_a_disk_or_refused(text: str) -> None:
    try:
        devid = devid_of(text)
    except ValueError:
        return
    assert name_of(devid) == text


@given(st.integers(0, (1 << 32) - 1))
def test_any_number_has_a_name(devid: int) -> None:
    """And so has the number of that name, where it is one to be given. (Some disks can be numbered
    in two ways.)"""
    name = name_of(devid)
    assert name == f"disk {devid}" or name[:2] in ("sd", "hd") or name_of(devid_of(name)) == name


# States, rings, and all of it together

STATES = [*(int(state) for state in XenbusState), "", "-1", "99999", "four"]
MOVES = 100


class Vandal:
    """A front end by hand: makes rings and fills them with anything, says anything, and takes it
    all back, in any order."""

    def __init__(self, xen: Domain, device: Device, seed: int) -> None:
        self.random = Random(seed)
        self._xen = xen
        self._path = device.front_path
        self._front = RawFront(xen, device)

    async def rage(self) -> None:
        moves = [self._say, self._say, self._publish, self._ask, self._scribble, self._forget]
        for _ in range(MOVES):
            await self.random.choice(moves)()
            await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.1]))

    async def leave(self) -> None:
        """Everything is given back, which takes that the back end has let go of it."""
        await self._xen.store.write(f"{self._path}/state", int(XenbusState.CLOSED))
        await self._front.disconnect()
        self._front.leftovers.close(*self._front.pages)
        await self._front.leftovers.aclose()
        await self._xen.store.write(f"{self._path}/state", int(XenbusState.INITIALISING))

    async def _say(self) -> None:
        await self._xen.store.write(f"{self._path}/state", self.random.choice(STATES))

    async def _publish(self) -> None:
        """Rings, properly; then the state that says so, mostly."""
        front = self._front
        front.order, front.queues = self.random.choice([(0, 1), (2, 1), (0, 2)])
        front.persistent = self.random.random() < 0.5
        await front.disconnect()
        keys = await front.publish(Keys("nobody", "", {}))
        for name, value in keys.items():
            await self._xen.store.write(f"{self._path}/{name}", value)
        if self.random.random() < 0.8:
            await self._xen.store.write(f"{self._path}/state", int(XenbusState.INITIALISED))

    async def _ask(self) -> None:
        """Something sensible, which takes its time."""
        front = self._front
        if front.links and front.ring.free and len(front.pages) < 100:
            segment = Segment(front.page().refs[0], 0, 7)
            op = self.random.choice([Op.READ, Op.WRITE])
            sector = self.random.randrange(SIZE // 512 - 8)
            front.put(Request(op, 1, sector, HANDLE, encode_segments([segment])))

    async def _scribble(self) -> None:
        if self._front.links:
            link = self.random.choice(self._front.links)
            start = self.random.choice([0, 0, 64])
            size = self.random.choice([16, len(link.grant.memory) - start])
            link.grant.memory[start : start + size] = self.random.randbytes(size)
            link.port.notify()

    async def _forget(self) -> None:
        name = self.random.choice(["ring-ref", "event-channel", "protocol", "queue-0", "ring-ref1"])
        with suppress(StoreError):
            await self._xen.store.rm(f"{self._path}/{name}")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_back_end_outlives_any_front_end_and_serves_the_next(seed: int) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("vbd", DEVID, await xen.find("guest"), 0, served_as="pyvbd")
        await plug(xen, device)
        async with block.serve(xen, device, ObjectDisk(Slow(), SIZE)) as end:
            await xen.store.wait_for(f"/local/domain/{device.front}/data/behaves")
            await end.connected(within=LATER)
            await end.finished(within=LATER)
            assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", DEVID)
        vandal = Vandal(xen, device, seed)
        await vandal.rage()
        await vandal.leave()
        for name in await xen.store.list(device.front_path):
            if name not in ("backend", "backend-id", "state"):
                await xen.store.rm(f"{device.front_path}/{name}")
        await xen.store.write("data/behaves", 1)
        await use_front(xen, use, patience=LATER)
        await asyncio.sleep(SOON)

    async def use(front: RawFront) -> None:
        assert await front.write(0, b"x" * 4096) == Status.OKAY
        assert await front.read(0, 8) == b"x" * 4096

    running(dom0, guest, seed=seed)


class VandalBack:
    """A back end by hand: maps the rings it finds, answers what nobody asked, says anything."""

    def __init__(self, xen: Domain, device: Device, seed: int) -> None:
        self.random = Random(seed)
        self._xen = xen
        self._device = device

    async def rage(self) -> None:
        moves = [self._go_along, self._say, self._describe, *[self._serve] * 4, self._forget]
        for _ in range(MOVES):
            await self.random.choice(moves)()
            await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.1]))

    async def leave(self) -> None:
        """As a back end that died: another one will find its folder so."""
        await self._xen.store.write(f"{self._device.back_path}/state", int(XenbusState.CLOSED))
        await asyncio.sleep(1)

    async def _say(self) -> None:
        state = self.random.choice(STATES)
        await self._xen.store.write(f"{self._device.back_path}/state", state)

    async def _go_along(self) -> None:
        """Say what is proper, so that the ends get anywhere."""
        store, path = self._xen.store, self._device.back_path
        await store.write(f"{path}/{abi.SECTORS}", 2048)
        await store.write(f"{path}/{abi.SECTOR_SIZE_KEY}", 512)
        for state in (XenbusState.INIT_WAIT, XenbusState.CONNECTED):
            await store.write(f"{path}/state", int(state))
            await asyncio.sleep(0.1)

    async def _describe(self) -> None:
        name = self.random.choice([abi.SECTORS, abi.SECTOR_SIZE_KEY, abi.MAX_INDIRECT_SEGMENTS])
        value = self.random.choice(["8", "512", "2048", "4096", "-1", "many", str(1 << 63)])
        await self._xen.store.write(f"{self._device.back_path}/{name}", value)

    async def _serve(self) -> None:
        """Map whatever ring there is, and answer in it, with what is right, or anything."""
        front = await read_keys(self._xen.store, "the front end", self._device.front_path)
        with ExitStack() as held, suppress(XenbusError, XenError, RingError):
            refs = [int(front[name]) for name in front if name.startswith(abi.RING_REF)]
            if not refs:
                return
            grants, domid = self._xen.grants, self._device.front
            memory = held.enter_context(grants.map(domid, sorted(refs))).memory
            number = front.integer(abi.EVENT_CHANNEL)
            port = held.enter_context(self._xen.events.bind_interdomain(domid, number))
            ring = BackRing(memory, X86_64.entry_size)
            held.callback(ring.release)
            while (entry := ring.take()) is not None and self.random.random() < 0.9:
                ring.put(self._answer(entry))
            ring.push()
            if self.random.random() < 0.2:
                start = self.random.choice([0, 64])
                memory[start : start + 16] = self.random.randbytes(16)
            port.notify()
            await asyncio.sleep(self.random.choice([0, 0.01, 0.5]))

    def _answer(self, entry: bytes) -> bytes:
        (id,) = X86_64.id.unpack_from(entry)
        if self.random.random() < 0.1:
            id = self.random.choice([id + 1, 0, (1 << 64) - 1])
        op = entry[0] if self.random.random() < 0.95 else 77
        return X86_64.response.pack(id, op, self.random.choice([0, 0, -1, -2, 55]))

    async def _forget(self) -> None:
        with suppress(StoreError):
            await self._xen.store.rm(f"{self._device.back_path}/{abi.SECTORS}")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_front_end_outlives_any_back_end_and_uses_the_next(seed: int) -> None:
    behaves = done = False

    async def dom0(xen: Domain) -> None:
        nonlocal behaves
        device = Device("vbd", DEVID, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        vandal = VandalBack(xen, device, seed)
        await vandal.rage()
        await vandal.leave()
        behaves = True
        async with block.serve(xen, device, MemoryDisk(SIZE)):
            while not done:
                await asyncio.sleep(1)

    async def guest(xen: Domain) -> None:
        nonlocal done
        device = await front_device(xen, "vbd", DEVID)
        before = set(xen.events.ports)
        while not behaves:
            with suppress(DiskError, HandshakeTimeout, TimeoutError):
                async with block.open(xen, device, within=2, pages=8) as disk:
                    await try_to_use(disk)
            assert not xen.grants.open
            assert set(xen.events.ports) == before
        async with block.open(xen, device, within=LATER) as disk:
            await disk.write(4096, b"x" * 4096)
            assert await disk.read(4096, 4096) == b"x" * 4096
        done = True

    running(dom0, guest, seed=seed)


async def try_to_use(disk: Disk) -> None:
    """Several requests at once, which all end, or are given up."""
    is_sensible(disk)
    unit = disk.sector_size
    async with asyncio.timeout(2):
        requests = [disk.read(0, unit) for _ in range(5)] + [disk.flush()]
        ended = await asyncio.gather(*requests, return_exceptions=True)
    for each in ended:
        assert isinstance(each, bytes | DiskError | ValueError | None), each
