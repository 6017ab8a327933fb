"""The same peers on a real Xen under QEMU: at any moment while they read and write a program at
either end is killed, by SIGKILL, or its whole domain destroyed; and another takes its place.

Each half is a process of its own; this one, outside of the emulated machine, starts and kills them,
and reads what the client prints: that outlives the client. With a domain goes what its console had
not yet passed on, so a sector may be further than was heard, and never less far.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from activations.scenario import load
from xen_lab import Lab
from xen_lab.inside import records
from xen_lab.running import Lines
from xen_lab.shipment import Bundle, bundle

from .peers import WRITERS, Sectors

PEERS = Path(__file__).parent / "peers.py"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of kill: in which scenario, and of which of its halves."""

    scenario: str
    victim: str
    destroyed: bool = False
    """Whether its whole domain is."""


KINDS = {
    "disk-client": Kind("disk", "guest"),
    "disk-server": Kind("disk", "dom0"),
    "disk-guest": Kind("disk", "guest", destroyed=True),
    "net-client": Kind("net", "guest"),
    "net-server": Kind("net", "dom0"),
    "net-guest": Kind("net", "guest", destroyed=True),
    "vchan-client": Kind("vchan", "guest"),
    "vchan-server": Kind("vchan", "dom0"),
    "vchan-guest": Kind("vchan", "guest", destroyed=True),
    "vchan-driver": Kind("vchan-driver", "driver", destroyed=True),
}
SOON = 60.0
"""Seconds of an idle machine until an answer has come."""
ANSWERS = 30
"""Until the next kill, at most."""


class Life:
    """One life of a half: a process in its domain."""

    def __init__(self, lab: Lab, sent: Bundle, half: str, hear: Callable[[str], None]) -> None:
        self._half = half
        self._hear = hear
        self._lines = {"out": Lines(), "log": Lines()}
        self._result = bytearray()
        self._control, self._label = lab.reach(half)
        self._request = self._control.ask(
            self._label,
            "half",
            stream=self._take,
            name=half,
            target=sent.target,
            digest=sent.digest,
            log=records.wanted(),
            env=self._control.pace.environment,
            trace=False,
            record=None,
            files=sent.files,
            imports=sent.imports,
        )

    def _take(self, stream: str, data: bytes) -> None:
        if stream == "result":
            self._result += data
        elif stream == "out":
            for line in self._lines[stream].feed(data):
                self._hear(line)

    @property
    def over(self) -> bool:
        return self._request.answer is not None

    def look(self) -> None:
        """Raises what it ended of, if it has ended."""
        if self.over:
            told = json.loads(self._result) if self._result else self._request.answer
            raise AssertionError(f"{self._half} ended: {told}")

    def kill(self) -> None:
        """By SIGKILL. Whoever was killed already stays so."""
        if not self.over:
            self._control.ask(self._label, "end", job=self._request.number)
            assert self._control.wait(lambda: self.over, SOON), f"{self._half} does not die"


@dataclass
class Survived:
    """What came of the kills of one kind."""

    kills: int = 0
    answers: int = 0
    seconds: list[float] = field(default_factory=list)
    """From a kill to an answer to what was asked after it; where a domain was destroyed, from when
    the next one had booted."""

    def __str__(self) -> str:
        in_order = sorted(self.seconds)
        middle, most = in_order[len(in_order) // 2], in_order[-1]
        took = f"{middle:.1f} s to the next one in the middle, {most:.1f} at most"
        return f"{self.kills:,} kills, {self.answers:,} answers, {took}"


class Killing:
    """A device on a lab, one of whose peers is killed over and over."""

    def __init__(
        self, lab: Lab, kind: Kind, random: Random, say: Callable[[Survived], object]
    ) -> None:
        self._lab = lab
        self._say = say
        self._kind = kind
        self._random = random
        self._scenario = load(f"{PEERS}::{kind.scenario}")
        self._sent = bundle(self._scenario)
        self._sectors = Sectors(all_heard=False)
        self._lives: dict[str, Life] = {}
        self.outcome = Survived()

    def run(self, kills: int) -> Survived:
        """So many; raises what is wrong."""
        self._lab.guests({name: "pvh" for name in self._scenario.halves if name != "dom0"})
        try:
            for half in self._scenario.halves:
                self._start(half)
            self._until_answers(1)
            for _ in range(kills):
                self._until_answers(1 + self._random.randrange(ANSWERS))
                self._kill()
                self.outcome.kills += 1
                self._say(self.outcome)
            self._read_all_again()
        finally:
            for life in self._lives.values():
                life.kill()
        return self.outcome

    def _start(self, half: str) -> None:
        self._lives[half] = Life(self._lab, self._sent, half, self._hear)

    def _hear(self, line: str) -> None:
        match line.split():
            case ["answered"]:
                self.outcome.answers += 1
            case ["wrote", sector, number]:
                self._sectors.wrote(int(sector), int(number))
            case ["found", sector, number]:
                self._sectors.found(int(sector), int(number))

    def _until_answers(self, more: int) -> None:
        """Wait for so many answers to come from now on."""
        enough = self.outcome.answers + more
        control, _ = self._lab.reach("dom0")

        def looked() -> bool:
            for life in self._lives.values():
                life.look()
            return self.outcome.answers >= enough

        if not control.wait(looked, SOON):
            raise AssertionError(f"no answer {control.pace.within(SOON)}")

    def _kill(self) -> None:
        victim = self._kind.victim
        time.sleep(self._random.random() * 0.01)  # anywhere between two answers
        begun = time.monotonic()
        if self._kind.destroyed:
            self._lab.replace(victim)
            begun = time.monotonic()
        else:
            self._lives[victim].kill()
        if victim != "guest":
            self._lab.shell("guest", ["true"])  # behind it, what was answered before is heard
        self._start(victim)
        self._until_answers(1 + WRITERS)  # each may yet tell of one that was answered before
        self.outcome.seconds.append(time.monotonic() - begun)

    def _read_all_again(self) -> None:
        """A client reads every sector as it begins."""
        self._lives["guest"].kill()
        self._start("guest")
        self._until_answers(1)


def nobody(outcome: Survived) -> None:
    """Hears how far it is."""


def kill(
    lab: Lab, kind: str, kills: int, seed: int, say: Callable[[Survived], object] = nobody
) -> Survived:
    """So many kills of this kind; `say` is told after each. Raises what is wrong; and
    `BackendError`, of the lab."""
    return Killing(lab, KINDS[kind], Random(f"{kind} {seed}"), say).run(kills)
