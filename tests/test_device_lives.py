"""Block and network devices whose ends live many lives, each with options of its own: they end in
good order, die, are suspended, have their device removed, or made anew elsewhere.

What was acknowledged is there, what is connected works, and of a device that is removed nothing is
left: no node, no port, no page.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, ClassVar, NamedTuple

from device_lives import FOLDERS, Kind, World
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from activations import Domain
from activations.abi import blkif
from activations.drivers.block import BlkBack, Disk, DiskError, DiskGone, MemoryDisk
from activations.drivers.block import front as blkfront
from activations.drivers.block.disks import Buffers
from activations.drivers.net import CableEnd, Nic, NicClosed, cable
from activations.drivers.net import front as netfront
from activations.drivers.net.back import NetBack
from activations.xenbus import BackDriver, Device, Written

# Disks

PLACES, PLACE = 6, 160 << 10
"""Parts of the disk, each written and read as a whole, and bytes of each: more than one page of a
request's segments, and more than few pages hold."""


class Hesitant(MemoryDisk):
    """Does some of what it is asked at once and the rest later, so that much is under way."""

    def __init__(self, data: bytearray, random: Random, *, read_only: bool) -> None:
        super().__init__(0, read_only=read_only)
        self.data, self.sectors = data, len(data) // 512
        self._random = random

    def read_into(self, offset: int, buffers: Buffers) -> Any:
        return self._soon(super().read_into, offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Any:
        return self._soon(super().write, offset, buffers)

    def _soon(self, work: Any, *args: Any) -> Any:
        delay = self._random.choice([0, 0, 1e-6, 1e-3, 0.1])
        return self._later(delay, work, *args) if delay else work(*args)

    async def _later(self, delay: float, work: Any, *args: Any) -> None:
        await asyncio.sleep(delay)
        work(*args)


class BlkOptions(NamedTuple):
    """A block back end's."""

    queues: int
    ring_order: int
    indirect: int
    persistent: bool
    read_only: bool


class Offering(BlkBack):
    """Offers what it is told to."""

    def __init__(self, xen: Domain, device: Device, disk: MemoryDisk, options: BlkOptions) -> None:
        super().__init__(xen, device, disk, max_queues=options.queues)
        self._options = options

    async def offer(self) -> Written:
        said = {
            **await super().offer(),
            blkif.MAX_RING_PAGE_ORDER_KEY: self._options.ring_order,
            blkif.MAX_INDIRECT_SEGMENTS: self._options.indirect,
            blkif.FEATURE_PERSISTENT: int(self._options.persistent),
        }
        unsaid = [name for name, value in said.items() if not value]
        return {name: value for name, value in said.items() if name not in unsaid}


class Block(Kind):
    name = "vbd"
    front_keys: ClassVar[dict[str, str | int]] = {"virtual-device": 51712}
    gone = DiskGone

    def __init__(self) -> None:
        self.data = bytearray(PLACES * PLACE)
        self.known: dict[int, bytes | None] = dict.fromkeys(range(PLACES), bytes(PLACE))
        """What a place holds; None while a write is under way, or where one was cut short."""
        self.asked: dict[int, asyncio.Task[None]] = {}
        self.random = Random(1)

    def front(self, xen: Domain, device: Device, options: Any) -> AbstractAsyncContextManager[Disk]:
        return blkfront.open(xen, device, **options)

    def back(self, xen: Domain, device: Device, options: BlkOptions) -> BackDriver:
        disk = Hesitant(self.data, self.random, read_only=options.read_only)
        return Offering(xen, device, disk, options)

    async def ask(self, front: Disk) -> None:
        """Something at each place where nothing is under way."""
        for place in range(PLACES):
            if place not in self.asked or self.asked[place].done():
                use = self._write if self.random.random() < 0.6 else self._read
                self.asked[place] = asyncio.create_task(use(front, place))

    async def prove(self, front: Disk) -> None:
        await front.read(0, 512)
        await self.finished()
        for place in range(PLACES):
            await self._read(front, place, told=True)
            await self._write(front, place)
            await self._read(front, place)
        await front.flush()

    async def finished(self) -> None:
        await asyncio.gather(*self.asked.values())

    async def _write(self, disk: Disk, place: int) -> None:
        before, self.known[place] = self.known[place], None
        data = self.random.randbytes(PLACE)
        try:
            await disk.write(place * PLACE, data)
        except DiskError as error:
            if error.errno == errno.EROFS:
                self.known[place] = before
            elif error.errno not in (errno.EIO, errno.ENODEV):
                raise  # else it came to a back end that is read-only, or nobody knows where
        else:
            self.known[place] = data

    async def _read(self, disk: Disk, place: int, *, told: bool = False) -> None:
        try:
            data = await disk.read(place * PLACE, PLACE)
        except DiskGone:
            if told:
                raise
            return
        assert self.known[place] in (None, data), "what was acknowledged is not there"
        self.known[place] = data


# Networks


class NetOptions(NamedTuple):
    """A network back end's."""

    queues: int
    split: bool


class Plain(NetBack):
    """Gives its front end one event channel a queue."""

    async def offer(self) -> Written:
        said = dict(await super().offer())
        del said["feature-split-event-channels"]
        return said


GUEST, DOM0 = bytes.fromhex("00163e000001"), bytes.fromhex("00163e0000ff")
FLOWS = 5


class Net(Kind):
    """dom0 sends back what it is sent: frames may be lost, and nothing else may happen to them."""

    name = "vif"
    front_keys: ClassVar[dict[str, str | int]] = {"mac": GUEST.hex(":"), "mtu": 9000}
    gone = NicClosed

    def __init__(self) -> None:
        self.sent = 0
        self.heard: dict[int, int] = {}
        """The last frame's number of each flow."""
        self.asked: list[asyncio.Task[None]] = []
        self.listening: asyncio.Task[None] | None = None
        self.random = Random(1)
        self.echoing: list[asyncio.Task[None]] = []

    def front(self, xen: Domain, device: Device, options: Any) -> AbstractAsyncContextManager[Nic]:
        self.heard.clear()  # of the card before, something may be on its way still
        return netfront.open(xen, device, **options)

    def back(self, xen: Domain, device: Device, options: NetOptions) -> BackDriver:
        near, far = cable()
        self.echoing.append(asyncio.create_task(self._echo(near)))
        kind = NetBack if options.split else Plain
        return kind(xen, device, far, max_queues=options.queues)

    async def ask(self, front: Nic) -> None:
        self.asked.append(asyncio.create_task(self._send(front)))

    async def prove(self, front: Nic) -> None:
        """Frames come back of each flow."""
        wanted = {flow: self.sent + flow for flow in range(FLOWS)}
        while any(self.heard.get(flow, -1) < wanted[flow] for flow in range(FLOWS)):
            for _ in range(FLOWS):
                await front.send(self._frame())
            await asyncio.sleep(0.01)
            while (frame := front.receive_nowait()) is not None:
                self._hears(frame)

    async def finished(self) -> None:
        await asyncio.gather(*self.asked)
        for echoing in self.echoing:
            echoing.get_loop().call_soon_threadsafe(echoing.cancel)

    async def _send(self, nic: Nic) -> None:
        try:
            for _ in range(self.random.randrange(200)):
                await nic.send(self._frame())
        except NicClosed:
            pass

    def _frame(self) -> bytes:
        """The next, of its flow."""
        number, self.sent = self.sent, self.sent + 1
        to = DOM0[:5] + bytes([number % FLOWS])
        return (to + GUEST + b"\x88\xb5" + number.to_bytes(4, "big")).ljust(60 + number % 9000)

    def _hears(self, frame: bytes) -> None:
        number = int.from_bytes(frame[14:18], "big")
        assert number < self.sent
        assert frame[18:] == b"".ljust(len(frame) - 18), "it came as it was sent"
        assert number > self.heard.get(number % FLOWS, -1), "a frame came twice, or too late"
        self.heard[number % FLOWS] = number

    async def _echo(self, near: CableEnd) -> None:
        while True:
            await near.send(await near.receive())


# Lives of either


class Lives(RuleBasedStateMachine):
    """Writes a script, and has it played at the end."""

    kind: type[Kind]

    @initialize(seed=st.none() | st.integers(0, 99), folder=st.sampled_from(FOLDERS))
    def begin(self, seed: int | None, folder: str) -> None:
        self.world = World(self.kind(), seed=seed)
        self.world.plugs(folder)
        self.front = self.back = False
        self.folder = folder

    # The front end's

    def front_begins(self, options: Any) -> None:
        self.world.front_begins(options)
        self.front = True

    @precondition(lambda self: self.front)
    @rule(dies=st.booleans())
    def front_ends(self, dies: bool) -> None:
        self.world.front_ends(dies=dies)
        self.front = False

    @precondition(lambda self: self.front)
    @rule()
    def ask(self) -> None:
        self.world.asks()

    # The back end's

    def back_begins(self, options: Any) -> None:
        self.world.back_begins(options)
        self.back = True

    @precondition(lambda self: self.back)
    @rule(dies=st.booleans())
    def back_ends(self, dies: bool) -> None:
        self.world.back_ends(dies=dies)
        self.back = False

    # What happens to them

    @rule(domain=st.sampled_from(["dom0", "guest"]), number=st.integers(1, 300))
    def turns(self, domain: str, number: int) -> None:
        self.world.turns(domain, number)

    @rule(seconds=st.sampled_from([0.01, 0.1, 20]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(domain=st.sampled_from(["dom0", "guest"]))
    def suspend(self, domain: str) -> None:
        self.world.suspend(domain)

    @precondition(lambda self: self.front and self.back)
    @rule()
    def prove(self) -> None:
        self.world.proves()

    # The toolstack's

    @rule(folder=st.sampled_from(FOLDERS), force=st.booleans())
    def plug_anew(self, folder: str, force: bool) -> None:
        self.world.unplugs(force=force or not self.front)
        self.front = self.back = False
        self.world.plugs(folder)
        self.folder = folder

    @rule()
    def make_anew_elsewhere(self) -> None:
        (self.folder,) = set(FOLDERS) - {self.folder}
        self.world.moves(self.folder)
        self.front = self.back = False

    def end(self, front: Any, back: Any) -> None:
        """Both ends live, and what was asked for is done; then all of it is taken away."""
        if not self.front:
            self.front_begins(front)
        if not self.back:
            self.back_begins(back)
        self.world.proves()
        self.world.unplugs(force=False)
        self.world.guest_finishes()
        self.world.play()


class DiskLives(Lives):
    kind = Block

    @precondition(lambda self: not self.front)
    @rule(
        queues=st.integers(1, 4),
        ring_order=st.integers(0, 4),
        persistent=st.booleans(),
        pages=st.sampled_from([1, 20, 128]),
        protocol=st.sampled_from(sorted(blkif.LAYOUTS)),
    )
    def open(self, **options: Any) -> None:
        self.front_begins(options)

    @precondition(lambda self: not self.back)
    @rule(
        options=st.builds(
            BlkOptions,
            st.integers(1, 4),
            st.integers(0, 4),
            st.sampled_from([0, 16, 256]),
            st.booleans(),
            st.booleans(),
        )
    )
    def serve(self, options: BlkOptions) -> None:
        self.back_begins(options)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.end({}, BlkOptions(1, 0, 16, True, False))


class NetLives(Lives):
    kind = Net

    @precondition(lambda self: not self.front)
    @rule(queues=st.integers(1, 4), pages=st.sampled_from([32, 128]))
    def open(self, **options: Any) -> None:
        self.front_begins(options)

    @precondition(lambda self: not self.back)
    @rule(options=st.builds(NetOptions, st.integers(1, 4), st.booleans()))
    def serve(self, options: NetOptions) -> None:
        self.back_begins(options)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.end({}, NetOptions(1, False))


MANY = settings(
    max_examples=30, stateful_step_count=20, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
"""What fails is shown as it is: a script takes too long to be tried in hundreds of forms."""

TestDiskLives = DiskLives.TestCase
TestDiskLives.settings = MANY
TestNetLives = NetLives.TestCase
TestNetLives.settings = MANY
