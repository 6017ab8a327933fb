"""Live drivers before a peer that scribbles: into whatever it shares, wherever indices and entries
lie, with its own driver still at work on them, and events in between.

Three domains: dom0 serves a device each to a guest and to its neighbour. Either dom0 scribbles on
what it maps of the guest, or the guest on what it shares with dom0. The other one of the two is to
say what is wrong, or to go on; it keeps nothing when the device has gone; the next device works;
and the neighbour's answers are right and come all the while.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from random import Random

from activations import Domain
from activations.grants import Grant
from activations.xenbus import Device
from xen_sim import Machine

from .hostile import Subject
from .kinds import KINDS, Kind, OfXenbus, typed
from .noise import number, text, word

LIVES = 5
TRIES = 100
"""Of each life, to scribble: at times nothing is shared that may be written."""
HOT = (*range(0, 64, 4), *range(2048, 2080, 4), *range(3072, 3088, 4))
"""Where indices lie, in some ring or other."""

KEYS = ("ring-ref", "event-channel", "port", "tx-ring-ref", "sectors", "feature-sg", "mac")


class Scene:
    """One machine's run."""

    def __init__(self, kind: Kind, hostile: str, random: Random) -> None:
        self.kind = kind
        self.hostile = hostile
        """`dom0` or `guest`."""
        self.random = random
        self.life = 0
        self.over = False
        """The life is; the guest lets go."""
        self.parted = 0
        """The last life with which the guest is done."""
        self.served = 0
        """Right answers to the neighbour."""
        self.used = 0
        self.scribbled = 0
        """Words that were written over."""
        self.done = False
        """All lives are."""

    def run(self) -> int:
        """Gives how many words were written over. Raises what is wrong."""
        machine = Machine(seed=self.random.getrandbits(32))
        machine.boot("dom0", self.dom0)
        machine.boot("guest", self.guest)
        machine.boot("neighbour", self.neighbour)
        failed = machine.run_out()
        failures = [life.failure for life in machine.lives if life.failure is not None]
        for failure in failures:  # others fail of the one that is wrong
            failed = failure if not typed(failure) else failed
        if failed is not None:
            raise failed
        return self.scribbled

    # dom0

    async def dom0(self, xen: Domain) -> None:
        guest, neighbour = await xen.find("guest"), await xen.find("neighbour")
        await self.kind.make(xen, neighbour)
        beside = asyncio.create_task(self.kind.serve(xen, neighbour), name="the neighbour's")
        await self.answers_to_neighbour()
        ports = set(xen.events.ports)
        for self.life in range(1, LIVES + 1):
            self.over = False
            await self.kind.make(xen, guest)
            serving = asyncio.create_task(self.kind.serve(xen, guest), name="the guest's")
            if self.hostile == "dom0":
                await self.scribble(xen, guest)
            else:
                while not self.over:
                    await asyncio.sleep(1e-3)
            self.over = True
            await ended(serving, "the back end", hostile=self.hostile == "dom0")
            await self.kind.unmake(xen, guest)
            while self.parted < self.life:
                await asyncio.sleep(1e-3)
            if self.hostile == "guest":
                await nothing_left(xen, guest, ports)
            await self.answers_to_neighbour()
        self.done = True
        await ended(beside, "the neighbour's back end", hostile=False)
        await self.kind.unmake(xen, neighbour)

    async def answers_to_neighbour(self) -> None:
        before = self.served
        async with asyncio.timeout(1):
            while self.served < before + 2:
                await asyncio.sleep(1e-3)

    # Guests

    async def guest(self, xen: Domain) -> None:
        _ = xen.store
        ports = set(xen.events.ports)
        while self.parted < LIVES:
            while self.life == self.parted or self.over:
                await asyncio.sleep(1e-3)
                if self.over and self.life > self.parted:
                    break
            use = self.kind.use(xen, self.random, self.using, checked=False, pause=1e-3)
            using = asyncio.create_task(use, name="the guest's use")
            if self.hostile == "guest":
                await self.scribble(xen, 0)
                self.over = True
            while not self.over:
                await asyncio.sleep(1e-3)
            await ended(using, "the front end", hostile=self.hostile == "guest")
            if self.hostile == "dom0":
                await nothing_left(xen, 0, ports)
            self.parted = self.life

    def using(self) -> None:
        self.used += 1

    async def neighbour(self, xen: Domain) -> None:
        def tick() -> None:
            self.served += 1

        use = self.kind.use(xen, Random(1), tick, checked=True, pause=1e-2)
        using = asyncio.create_task(use, name="the neighbour's use")
        while not self.done:
            await asyncio.wait([using], timeout=0.1)
            if using.done() and not self.done:
                await using
        await ended(using, "the neighbour", hostile=False)

    # What is done to them

    async def scribble(self, xen: Domain, peer: int) -> None:
        await self.at_work(xen, peer)
        for _ in range(TRIES):
            shared = [grant for grant in xen.grants.open if grant.domid == peer]
            if shared:
                self.scribble_on(self.random.choice(shared))
            if self.random.random() < 0.02:
                await self.write_a_key(xen, peer)
            if self.random.random() < 0.7:
                port = self.random.choice([*xen.events.ports.values()])
                with suppress(OSError):
                    port.notify()
            await asyncio.sleep(self.random.choice((0, 0, 1e-5, 1e-3)))

    async def write_a_key(self, xen: Domain, peer: int) -> None:
        """Anything, into the folder that this end of the device owns; its state, too."""
        if not isinstance(self.kind, OfXenbus):
            return
        guest, side = (xen.domid, "front") if xen.domid else (peer, "back")
        device = Device(self.kind.kind, self.kind.devid, guest, 0, f"soak-{self.kind.kind}")
        folder = device.front_path if side == "front" else device.back_path
        key = self.random.choice(("state", "state", "online", *KEYS))
        with suppress(OSError, ValueError):
            await xen.store.write(f"{folder}/{key}", text(self.random, "1", "3", "5", "6"))

    async def at_work(self, xen: Domain, peer: int) -> None:
        """Mostly once the two ends are connected; a life may begin with anything, too."""
        before = self.used
        for _ in range(300 if self.random.random() < 0.9 else 3):
            if self.used > before:
                return
            await asyncio.sleep(1e-3)

    def scribble_on(self, grant: Grant) -> None:
        memory, random = grant.memory, self.random
        if memory.readonly:
            return
        at = random.choice(HOT) if random.random() < 0.6 else 4 * random.randrange(len(memory) // 4)
        old = int.from_bytes(memory[at : at + 4], "little")
        near = (old + random.randint(-3, 3)) & 0xFFFFFFFF
        said = near.to_bytes(4, "little") if random.random() < 0.5 else word(random)
        memory[at : at + 4] = said if random.random() < 0.9 else number(random).to_bytes(4, "big")
        self.scribbled += 1


async def nothing_left(xen: Domain, peer: int, ports: set[int]) -> None:
    """Soon, no page that is shared with the peer and no port besides these. A server of a vchan
    takes its pages back as soon as its client has let them go."""
    left: list[object] = []
    for _ in range(500):
        left = [grant for grant in xen.grants.open if grant.domid == peer]
        left += [port for number, port in xen.events.ports.items() if number not in ports]
        if not left:
            return
        await asyncio.sleep(1e-3)
    raise AssertionError(f"{xen} kept {left}")


async def ended(task: asyncio.Task[None], who: str, *, hostile: bool) -> None:
    """Have it end; what it says is to be typed, unless it is the hostile one's own affair."""
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled() or (error := task.exception()) is None:
        return
    if not typed(error) and not (hostile and isinstance(error, Exception)):
        raise AssertionError(f"{who} raised {error!r}") from error


def scene(kind: Kind, hostile: str, random: Random) -> int:
    return Scene(kind, hostile, random).run()


LIVE = tuple(
    Subject(
        f"live-{kind.name}-{victim}",
        f"a live {kind.name} device, its {victim} end before a peer that scribbles",
        lambda kind=kind, hostile=hostile: partial(scene, kind, hostile),
    )
    for kind in KINDS
    for victim, hostile in (("back", "guest"), ("front", "dom0"))
)
