"""A tape that has faults happen by a chance of their own, whatever answers the rest.

Each run draws which faults may happen in it at all, and how often each does: many bugs show only
where some other fault, that would end the run before, is away. What a run draws depends on its seed
alone, and takes nothing from the chance of the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from xen_sim.faults.kinds import KINDS
from xen_sim.schedule.step import Choice, Step
from xen_sim.schedule.tape import Tape


class Swarm(Tape):
    """Another tape for the schedule, and faults by this seed."""

    def __init__(self, tape: Tape, seed: int) -> None:
        self._tape = tape
        self._seed = seed
        self._random = Random(f"faults {seed}")
        self._rates: dict[tuple[str, str], float] = {}

    def choose(self, choice: Choice) -> int:
        if not choice.fault:
            return self._tape.choose(choice)
        rest = self._random.random()
        for answer, name in enumerate(choice.options[1:], 1):
            rest -= self._rate(choice.fault, name)
            if rest < 0:
                return answer
        return 0

    def _rate(self, kind: str, name: str) -> float:
        if (kind, name) not in self._rates:
            # of the seed and the fault alone: not of what a run comes by first
            draw = Random(f"rate {self._seed} {kind} {name}")
            on = draw.random() < 0.5
            self._rates[kind, name] = 10 ** -draw.uniform(*KINDS[kind].rate) if on else 0.0
        return self._rates[kind, name]

    def begin(self, run: Sequence[str]) -> None:
        self._tape.begin(run)

    def alone(self, name: str, step: Step) -> None:
        self._tape.alone(name, step)

    def end(self, failure: BaseException | None) -> None:
        self._tape.end(failure)
