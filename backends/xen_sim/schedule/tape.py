"""The choice tape: everything in a simulation that could go either way is asked of it.

A simulation without a tape takes option 0 everywhere. The same answers to the same
questions give the same run, so these are a run's whole identity: `Recording` keeps them, `Replay`
plays them, and stops at the first question that is another one than was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from activations.errors import SimulationOver
from xen_sim.schedule.step import Choice, Step


class Tape:
    """Who answers. A run `begin`s with the names of its vCPUs and `end`s with what became of it."""

    def begin(self, run: Sequence[str]) -> None:
        """A run of these vCPUs begins."""

    def choose(self, choice: Choice) -> int:
        """The index of the option to take."""
        return 0

    def alone(self, name: str, step: Step) -> None:
        """This vCPU is about to take a step before which no other could run."""

    def end(self, failure: BaseException | None) -> None:
        """The run has ended, well or with this."""


class Diverged(SimulationOver):
    """A tape was played to a simulation that asks other questions than the one it came from."""


class Seeded(Tape):
    """Random choices, the same for the same seed in every process."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def choose(self, choice: Choice) -> int:
        return self._random.randrange(len(choice.options))


class Taken(NamedTuple):
    """One question of a run, and its answer."""

    point: str
    options: tuple[str, ...]
    answer: int

    def __str__(self) -> str:
        return f"{self.point!r} ({', '.join(self.options)})"


class Recording(Tape):
    """Another tape, whose answers are kept in `taken`, with what was asked."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.run: tuple[str, ...] = ()
        self.taken: list[Taken] = []

    def begin(self, run: Sequence[str]) -> None:
        self.run = tuple(run)
        self._tape.begin(run)

    def choose(self, choice: Choice) -> int:
        answer = self._tape.choose(choice)
        self.taken.append(Taken(*choice.asked, answer))
        return answer

    def alone(self, name: str, step: Step) -> None:
        self._tape.alone(name, step)

    def end(self, failure: BaseException | None) -> None:
        self._tape.end(failure)


class Replay(Tape):
    """What an earlier run was asked, and its answers; 0 after the last one.

    Raises `Diverged` at the first question that is another one than was recorded.
    """

    def __init__(self, taken: Iterable[Taken]) -> None:
        self._taken = list(taken)
        self._next = 0

    def choose(self, choice: Choice) -> int:
        if self._next == len(self._taken):
            return 0
        recorded = self._taken[self._next]
        if recorded[:2] != choice.asked:
            asked = Taken(*choice.asked, 0)
            raise Diverged(
                f"this is not the run that was recorded: choice {self._next} was {recorded}, and "
                f"now it is {asked}"
            )
        self._next += 1
        return recorded.answer


class Schedule(Tape):
    """A schedule written down by hand: at these points, in this order, let this domain run.

        Schedule(("guest: hlt", "dom0"), ("dom0: read evtchn_mask", "guest", 2))

    reads "when the guest is about to hlt, dom0 runs instead; when dom0 is about to read its mask
    for the second time after that, the guest does". Everywhere else the ordinary course is taken.
    `rest` is what has not come to pass: empty, if the run went as the schedule says. One made with
    `armed=False` waits for `arm()`, which the program may call when its interesting part begins.
    """

    def __init__(self, *steps: tuple[str, str] | tuple[str, str, int], armed: bool = True) -> None:
        self.rest: list[tuple[str, str] | tuple[str, str, int]] = list(steps)
        self._armed = armed
        self._passed = 0

    def arm(self) -> None:
        """Begin to go by the steps, if it was made with `armed=False`."""
        self._armed = True

    def choose(self, choice: Choice) -> int:
        if not (self._armed and self.rest):
            return 0
        wanted, domain, *nth = self.rest[0]
        if choice.point != wanted or domain not in choice.options:
            return 0
        self._passed += 1
        if nth and self._passed < nth[0]:
            return 0
        self._passed = 0
        self.rest.pop(0)
        return choice.options.index(domain)
