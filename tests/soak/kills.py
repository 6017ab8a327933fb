"""Either peer of a disk, an interface or a vchan is killed in the middle of a step, and started
again; over and over. Some blows are of several deeds at once, or close upon each other.

The machine is an explored one: a domain is killed before one of its own steps, whoever runs then,
in the middle of a ring's entry for one. What it would have cleaned up is cleaned up by nobody. A
guest is destroyed, and boots with another number; of dom0 the program dies, as a driver's process
does, and its next life finds what the first has left in xenstore. dom0 is the toolstack too; where
a driver domain serves it is nothing else, and takes the device of who was destroyed away, and makes
it anew.

What is promised is looked at by the guest, which tells `Scene` what it was told.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from activations.drivers.block import MemoryDisk
from xen_sim import Machine
from xen_sim.faults.ask import MOST, ORDINARY
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

from .kinds import of
from .peers import SECTOR, SECTORS, DiskPeers, NetPeers, Peers, Sectors, Told, VchanPeers

SECOND = 1_000_000_000
WITHIN = SECOND
"""Nanoseconds of virtual time from a kill to the first answer after it."""
KILLS = 10
"""Of one machine: a run has `MOST` faults."""
CLOSE = (1, 10, 100)
"""Steps from one deed of a blow to the next, at most."""
APART = 400
"""Steps from an answer to the next kill, at most."""
AIMED = 600
"""Steps from a change of the device to the blow that is aimed at it, at most."""
NEVER = 1 << 40


class Strikes(Tape):
    """Strikes at a random step behind each new sign of life, at times on its way to that too; and
    now and then has another vCPU run in between.

    A blow is of one deed or several, each at most some steps behind the one before, in the words in
    which the machine offers it. An answer between two of them says that their moment is over, and
    the next blow comes instead. Blows that are aimed fall behind a change of the device alone.
    """

    def __init__(self, kind: Kind, random: Random, now: Callable[[], int]) -> None:
        self._blows = kind.blows
        self._random = random
        self._now = now
        self._most = min(kind.kills, MOST // max(map(len, kind.blows)))
        self.kills = 0
        """Blows that were struck to their end."""
        self.deeds = 0
        self.struck_at: int | None = None
        """When it was last struck, in ns of virtual time; None where an answer has come since."""
        self._blow = self._next()
        self._left = random.randrange(APART)
        self._aimed = kind.aimed
        self._changing = False

    def _next(self) -> list[str]:
        return list(self._random.choice(self._blows))

    @property
    def over(self) -> bool:
        return self.kills == self._most

    def choose(self, choice: Choice) -> int:
        if not choice.fault:
            return (
                self._random.randrange(len(choice.options)) if self._random.random() < 0.05 else 0
            )
        if self.over or self._blow[0] not in choice.options or (self._aimed and not self._changing):
            return choice.options.index(ORDINARY)
        if self._left:
            self._left -= 1
            return choice.options.index(ORDINARY)
        deed = self._blow.pop(0)
        self.deeds += 1
        self.struck_at = self._now()
        if self._blow:
            self._left = self._random.randrange(self._random.choice(CLOSE))
        else:
            self.kills += 1
            self._changing = False
            self._blow = self._next()
            self._left = self._random.choice((100, 1000, NEVER, NEVER, NEVER))
            self._left = self._random.randrange(self._left)
        return choice.options.index(deed)

    def changes(self) -> None:
        """A moment to aim at."""
        if self._aimed and not self._changing:
            self._changing = True
            self._left = self._random.randrange(AIMED)

    def answered(self, asked: int) -> int:
        """An answer to what was asked after so many deeds; how long after the last one it came, if
        it is the first to what was asked since."""
        if self.struck_at is None or asked < self.deeds:
            return 0
        took, self.struck_at = self._now() - self.struck_at, None
        if not self._aimed:
            self._blow = self._next()
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


Blow = tuple[str, ...]
"""What befalls a machine at one moment, one thing after the other."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Who uses what, and what befalls them."""

    peers: Callable[[Told, Random], Peers]
    blows: Sequence[Blow]
    driven: bool = False
    """A driver domain serves."""
    aimed: bool = False
    """Blows fall as the device changes."""
    kills: int = KILLS
    """Of one machine, at most."""

    def strikes(self, name: str) -> bool:
        """Whether this domain is killed by some blow."""
        return any(f"{name} restarted" in blow for blow in self.blows)

    @property
    def faults(self) -> str:
        """What the machine has to offer for it."""
        deeds = {deed for blow in self.blows for deed in blow}
        return ",".join(sorted({FAULTS[deed.removeprefix(_who(deed))] for deed in deeds}))


def _who(deed: str) -> str:
    return next((f"{who} " for who in VICTIMS if deed.startswith(f"{who} ")), "")


FAULTS = {
    "restarted": "domains:restarted",
    "migrated": "domains:migrated",
    "connection lost": "store:connection lost",
}
"""Deeds, and the explorer's faults that they are."""
VICTIMS = ("guest", "dom0", "driver")
"""Who is killed. The driver domain serves where it is the one."""


class Scene:
    """One machine that is struck over and over; it is told by the guest, and outlives it."""

    def __init__(self, kind: Kind, random: Random) -> None:
        self.kind = kind
        self.outcome = Killed()
        self.sectors = Sectors()
        self.done = False
        """Everybody may end."""
        self.peers = kind.peers(self, random)
        self.tape = Strikes(kind, random, lambda: self.machine.xen.clock.time_ns())
        self.machine = Machine(tape=self.tape, explore=True, faults=kind.faults)

    def run(self) -> Killed:
        peers, kind = self.peers, self.kind
        dom0 = peers.toolstack if kind.driven else peers.dom0
        self.machine.boot("dom0", dom0, restart=kind.strikes("dom0"))
        if kind.driven:
            self.machine.boot("driver", peers.driver, restart=kind.strikes("driver"))
        self.machine.boot("guest", peers.guest, restart=kind.strikes("guest"))
        with the_dead_are_silent():
            try:
                self.machine.run()
            except BaseExceptionGroup as group:
                raise of(group)[0] from group
        self.outcome.kills = self.tape.kills
        assert self.outcome.slowest <= WITHIN, f"it took {self.outcome.slowest / 1e9:.3f} s"
        return self.outcome

    def changes(self) -> None:
        self.tape.changes()

    def opened(self) -> None:
        """It says the same as the first answer."""

    def asked(self) -> int:
        return self.tape.deeds

    def answered(self, asked: int) -> None:
        self.outcome.answers += 1
        self.outcome.slowest = max(self.outcome.slowest, self.tape.answered(asked))
        faults = self.machine.xen.faults
        assert faults is not None
        last = self.tape.over or faults.calm
        self.done = last and self.tape.struck_at is None  # who was killed last has to come back

    def writing(self, sector: int, number: int) -> None:
        self.sectors.writing(sector, number)

    def wrote(self, sector: int, number: int) -> None:
        self.sectors.wrote(sector, number)

    def found(self, sector: int, number: int) -> None:
        self.sectors.found(sector, number)


def on_disk(told: Told, random: Random) -> Peers:
    disk = MemoryDisk(SECTORS * SECTOR)
    return DiskPeers(told, random, lambda: disk)


DEVICES: dict[str, Callable[[Told, Random], Peers]] = {
    "disk": on_disk,
    "net": NetPeers,
    "vchan": VchanPeers,
}
KINDS = {
    f"{device}-{victim}": Kind(peers, [(f"{victim} restarted",)], driven=victim == "driver")
    for device, peers in DEVICES.items()
    for victim in VICTIMS
}


def kill(name: str, kind: Kind, seed: int, batch: int) -> Killed:
    """One machine that is struck so. Raises what is wrong."""
    return Scene(kind, Random(f"{name} {seed} {batch}")).run()
