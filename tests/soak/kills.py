"""Either peer of a disk, an interface or a vchan is killed in the middle of a step, and started
again; over and over.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from activations.drivers.block import MemoryDisk
from xen_sim import Machine
from xen_sim.faults.ask import ORDINARY
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

from .kinds import of
from .peers import SECTOR, SECTORS, DiskPeers, NetPeers, Peers, Sectors, VchanPeers

SECOND = 1_000_000_000
WITHIN = SECOND
"""Nanoseconds of virtual time from a kill to the first answer after it."""
KILLS = 10
"""Of one machine: a run has 16 faults at most."""
APART = 400
"""Steps from an answer to the next kill, at most."""
NEVER = 1 << 40


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
    """One machine, on which one domain is killed over and over; it is told by the guest, and
    outlives it."""

    def __init__(self, name: str, victim: str, random: Random) -> None:
        self.victim = victim
        self.outcome = Killed()
        self.sectors = Sectors()
        self.done = False
        """Everybody may end."""
        self.peers: Peers = DEVICES[name](self, random)
        self.tape = Strikes(victim, random, lambda: self.machine.xen.clock.time_ns())
        self.machine = Machine(tape=self.tape, explore=True, faults="domains:restarted")

    def run(self) -> Killed:
        peers, victim = self.peers, self.victim
        dom0 = peers.toolstack if victim == "driver" else peers.dom0
        self.machine.boot("dom0", dom0, restart=victim == "dom0")
        if victim == "driver":
            self.machine.boot("driver", peers.driver, restart=True)
        self.machine.boot("guest", peers.guest, restart=victim == "guest")
        with the_dead_are_silent():
            try:
                self.machine.run()
            except BaseExceptionGroup as group:
                raise of(group)[0] from group
        self.outcome.kills = self.tape.kills
        assert self.outcome.slowest <= WITHIN, f"it took {self.outcome.slowest / 1e9:.3f} s"
        return self.outcome

    def opened(self) -> None:
        """It says the same as the first answer."""

    def asked(self) -> int:
        return self.tape.kills

    def answered(self, asked: int) -> None:
        self.outcome.answers += 1
        self.outcome.slowest = max(self.outcome.slowest, self.tape.answered(asked))
        faults = self.machine.xen.faults
        assert faults is not None
        last = self.tape.kills == KILLS or faults.calm
        self.done = last and self.tape.killed_at is None  # who was killed last has to come back

    def writing(self, sector: int, number: int) -> None:
        self.sectors.writing(sector, number)

    def wrote(self, sector: int, number: int) -> None:
        self.sectors.wrote(sector, number)

    def found(self, sector: int, number: int) -> None:
        self.sectors.found(sector, number)


def _on_disk(scene: Scene, random: Random) -> Peers:
    disk = MemoryDisk(SECTORS * SECTOR)
    return DiskPeers(scene, random, lambda: disk)


DEVICES: dict[str, Callable[[Scene, Random], Peers]] = {
    "disk": _on_disk,
    "net": NetPeers,
    "vchan": VchanPeers,
}
VICTIMS = ("guest", "dom0", "driver")
"""Who is killed. The driver domain serves where it is the one."""


def kill(name: str, victim: str, seed: int, batch: int) -> Killed:
    """One machine with this device, one of whose peers is killed. Raises what is wrong."""
    return Scene(name, victim, Random(f"{name} {victim} {seed} {batch}")).run()
