"""Either peer of a disk, an interface or a vchan is killed in the middle of a step, and started
again; over and over.

The machine is an explored one: a domain is killed before one of its own steps, whoever runs then,
in the middle of a ring's entry for one. What it would have cleaned up is cleaned up by nobody. A
guest is destroyed, and boots with another number; of dom0 the program dies, as a driver's process
does, and its next life finds what the first has left in xenstore. dom0 is the toolstack too.

What is promised is looked at by the guest, which keeps outside of itself what it was told.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

from activations import Domain, vchan
from activations.drivers import block, net
from activations.drivers.block import MemoryDisk
from activations.drivers.net import cable
from activations.xenbus import BackEnd, Device, DeviceExists, Phase, front_device, plug, unplug
from xen_sim import Machine
from xen_sim.faults.ask import ORDINARY
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

from .kinds import TYPED, echo

SECOND = 1_000_000_000
WITHIN = SECOND
"""Nanoseconds of virtual time from a kill to the first answer after it."""
KILLS = 10
"""Of one machine: a run has 16 faults at most."""
APART = 400
"""Steps from an answer to the next kill, at most."""
NEVER = 1 << 40
SECTORS = 32
WRITERS = 3
PATIENCE = 0.05
"""Seconds until a frame is sent again."""


class Strikes(Tape):
    """Kills the victim at a random step behind each new sign of life, at times on its way to that
    too; and now and then has another vCPU run in between."""

    def __init__(self, victim: str, random: Random, now: Callable[[], int]) -> None:
        self._victim = f"{victim} restarted"
        self._random = random
        self._now = now
        self.kills = 0
        self.killed_at: int | None = None
        """When, in ns of virtual time; None where an answer has come since."""
        self._left = random.randrange(APART)

    def choose(self, choice: Choice) -> int:
        if not choice.fault:
            return (
                self._random.randrange(len(choice.options)) if self._random.random() < 0.05 else 0
            )
        if self.kills == KILLS or self._victim not in choice.options:
            return choice.options.index(ORDINARY)
        if self._left:
            self._left -= 1
            return choice.options.index(ORDINARY)
        self.kills += 1
        self.killed_at = self._now()
        self._left = self._random.choice((100, 1000, NEVER, NEVER, NEVER))
        self._left = self._random.randrange(self._left)
        return choice.options.index(self._victim)

    def answered(self, asked: int) -> int:
        """An answer to what was asked after so many kills; how long after the last one it came, if
        it is the first to what was asked since."""
        if self.killed_at is None or asked < self.kills:
            return 0
        took, self.killed_at = self._now() - self.killed_at, None
        self._left = self._random.randrange(APART)
        return took


@contextmanager
def the_dead_are_silent() -> Iterator[None]:
    """What is left of a program that was killed is thrown away with its machine. What its `finally`
    blocks say then is no fault of theirs: there is no loop any more."""
    heard, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = heard


@dataclass
class Killed:
    """What came of one machine's kills."""

    kills: int = 0
    answers: int = 0
    slowest: int = 0
    """Nanoseconds of virtual time from a kill to the first answer after it."""

    def __str__(self) -> str:
        slowest = f"{self.slowest / 1e6:.0f} ms at most"
        return f"{self.kills:,} kills, {self.answers:,} answers, {slowest} to the next one"

    def add(self, other: Killed) -> None:
        self.kills += other.kills
        self.answers += other.answers
        self.slowest = max(self.slowest, other.slowest)


class Scene:
    """One machine, on which one of the two is killed over and over."""

    devid = 0
    kind = ""

    def __init__(self, victim: str, random: Random) -> None:
        self.victim = victim
        self.random = random
        self.outcome = Killed()
        self.done = False

    def run(self) -> Killed:
        tape = self.tape = Strikes(self.victim, self.random, lambda: machine.xen.clock.time_ns())
        machine = Machine(tape=tape, explore=True, faults="domains:restarted")
        self.faults = machine.xen.faults
        machine.boot("dom0", self.dom0, restart=self.victim == "dom0")
        machine.boot("guest", self.guest, restart=self.victim == "guest")
        with the_dead_are_silent():
            machine.run()
        self.outcome.kills = tape.kills
        assert self.outcome.slowest <= WITHIN, f"it took {self.outcome.slowest / 1e9:.3f} s"
        return self.outcome

    def answered(self, asked: int) -> None:
        self.outcome.answers += 1
        self.outcome.slowest = max(self.outcome.slowest, self.tape.answered(asked))
        assert self.faults is not None
        self.done = self.tape.kills == KILLS or self.faults.calm

    async def dom0(self, xen: Domain) -> None:
        """Serve each guest of that name, one after the other."""
        while not self.done:
            guest = await xen.find("guest")
            with suppress(*TYPED, asyncio.CancelledError):
                await self.serve_until_gone(xen, guest)

    async def serve_until_gone(self, xen: Domain, guest: int) -> None:
        device = Device(self.kind, self.devid, guest, 0, f"soak-{self.kind}")
        with suppress(DeviceExists):  # an earlier life of this program has made it
            await plug(xen, device, front={"mac": "00:16:3e:00:00:01"})
        await self.serve(xen, device)
        await unplug(xen, device, within=0.1, force=True)

    async def serve(self, xen: Domain, device: Device) -> None:
        """Until the guest is gone, or done."""

    async def until_over(self, end: BackEnd) -> None:
        while not self.done:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await end.reached(Phase.UNPLUGGED)
                return

    async def guest(self, xen: Domain) -> None:
        while not self.done:
            with suppress(*TYPED):
                await self.use(xen)
            await asyncio.sleep(1e-3)  # an offer of the dead is refused at once

    async def use(self, xen: Domain) -> None:
        """Until it is done, or the device is gone."""


class OnDisk(Scene):
    """Writers, each with sectors of its own. What a write has returned for is there after any
    number of deaths; what it had not, is there or what was before it."""

    kind, devid = "vbd", 51712

    def __init__(self, victim: str, random: Random) -> None:
        super().__init__(victim, random)
        self.disk = MemoryDisk(SECTORS * 512)
        self.may_be: list[set[bytes]] = [{bytes(512)} for _ in range(SECTORS)]
        """What a sector may hold: one thing, where no write is under way."""

    async def serve(self, xen: Domain, device: Device) -> None:
        async with block.serve(xen, device, self.disk) as end:
            await self.until_over(end)

    async def use(self, xen: Domain) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with block.open(xen, device, within=1, pages=8, ring_order=0) as disk:
            for sector, may_be in enumerate(self.may_be):
                found = await disk.read(sector * 512, 512)
                assert found in may_be, f"sector {sector} has lost a write"
                self.may_be[sector] = {found}
            async with asyncio.TaskGroup() as tasks:
                for writer in range(WRITERS):
                    tasks.create_task(self.write(disk, writer))

    async def write(self, disk: block.Disk, writer: int) -> None:
        while not self.done:
            sector = self.random.randrange(writer, SECTORS, WRITERS)
            data = self.random.randbytes(512)
            self.may_be[sector].add(data)
            asked = self.tape.kills
            await disk.write(sector * 512, data)
            self.may_be[sector] = {data}
            self.answered(asked)
            if self.random.random() < 0.1:
                await disk.flush()
            if self.random.random() < 0.2:
                assert await disk.read(sector * 512, 512) == data, f"sector {sector} lost a write"


class OnNet(Scene):
    """Frames, which dom0 sends back. Some are lost with who is killed; then others get through."""

    kind = "vif"

    async def serve(self, xen: Domain, device: Device) -> None:
        near, far = cable()
        async with net.serve(xen, device, far) as end, asyncio.TaskGroup() as tasks:
            echoing = tasks.create_task(self.echo(near))
            await self.until_over(end)
            echoing.cancel()

    async def echo(self, near: net.Interface) -> None:
        while True:
            await near.send(await near.receive())

    async def use(self, xen: Domain) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with net.open(xen, device, within=1, pages=32) as nic:
            number = 0
            while not self.done:
                number += 1
                frame = number.to_bytes(14, "big") + self.random.randbytes(100)
                asked = self.tape.kills
                await nic.send(frame)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        while (found := await nic.receive())[:14] != frame[:14]:
                            pass  # of one that was given up
                        assert found == frame
                        self.answered(asked)


class OnVchan(Scene):
    """A stream each way. Who is left is told that the other one is gone, and a new one connects."""

    async def serve_until_gone(self, xen: Domain, guest: int) -> None:
        path = f"/local/domain/{guest}/data/soak"
        async with vchan.listen(xen, guest, path, left=1024, right=2048) as listener:
            accepting = asyncio.create_task(listener.accept())
            while not accepting.done():
                await asyncio.wait([accepting], timeout=0.01)
                if self.done or not await xen.store.exists(f"/local/domain/{guest}/domid"):
                    accepting.cancel()  # nobody comes any more
            async with accepting.result() as stream:
                await echo(stream.receive, stream.send)

    async def use(self, xen: Domain) -> None:
        async with asyncio.timeout(0.1):
            stream = await vchan.connect(xen, 0, "data/soak")
        async with stream:
            while not self.done:
                said = self.random.randbytes(self.random.randint(1, 1500))
                asked = self.tape.kills
                await stream.send(said)
                heard = b""
                while len(heard) < len(said):
                    heard += await stream.receive()
                assert heard == said
                self.answered(asked)


SCENES: dict[str, type[Scene]] = {"disk": OnDisk, "net": OnNet, "vchan": OnVchan}
VICTIMS = ("guest", "dom0")


def kill(name: str, victim: str, seed: int, batch: int) -> Killed:
    """One machine with this device, one of whose peers is killed. Raises what is wrong."""
    return SCENES[name](victim, Random(f"{name} {victim} {seed} {batch}")).run()
