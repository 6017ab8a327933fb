"""The choice tape: everything in a simulation that could go either way is asked of it.

A choice has a point (`guest: hlt`, `run next`) and options, the names of the domains that could
run. Option 0 is always the ordinary course: go on; first come, first served. A simulation without
a tape takes option 0 everywhere and asks nobody. The same answers give the same run, so a list of
answers is a run's whole identity: `Recording` keeps it, `Replay` plays it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Protocol

from activations.errors import ActivationsError


class Tape(Protocol):
    """Who answers."""

    def choose(self, point: str, options: Sequence[str]) -> int:
        """The index of the option to take; there are at least two."""


class Diverged(ActivationsError):
    """A tape was played to a simulation that asks other questions than the one it came from."""


class Seeded:
    """Random choices, the same for the same seed in every process."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def choose(self, point: str, options: Sequence[str]) -> int:
        return self._random.randrange(len(options))


class Replay:
    """The answers of an earlier run; 0 after the last one."""

    def __init__(self, answers: Iterable[int]) -> None:
        self._answers = list(answers)
        self._next = 0

    def choose(self, point: str, options: Sequence[str]) -> int:
        if self._next == len(self._answers):
            return 0
        answer = self._answers[self._next]
        if answer >= len(options):
            raise Diverged(
                f"answer {self._next} of the tape is {answer}, but at {point!r} there are only "
                f"{len(options)} options: {', '.join(options)}"
            )
        self._next += 1
        return answer


class Recording:
    """Another tape, whose answers are kept in `answers`."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.answers: list[int] = []

    def choose(self, point: str, options: Sequence[str]) -> int:
        answer = self._tape.choose(point, options)
        self.answers.append(answer)
        return answer


class Schedule:
    """A schedule written down by hand: at these points, in this order, let this domain run.

        Schedule(("guest: hlt", "dom0"), ("dom0: read evtchn_mask", "guest", 2))

    reads "when the guest is about to hlt, dom0 runs instead; when dom0 is about to read its mask
    for the second time after that, the guest does". Everywhere else the ordinary course is taken.
    `rest` is what has not come to pass: empty, if the run went as the schedule says. One made with
    `armed=False` waits for `arm()`, which the program may call when its interesting part begins.
    """

    def __init__(self, *steps: tuple[str, str] | tuple[str, str, int], armed: bool = True) -> None:
        self.rest = list(steps)
        self._armed = armed
        self._passed = 0

    def arm(self) -> None:
        self._armed = True

    def choose(self, point: str, options: Sequence[str]) -> int:
        if not (self._armed and self.rest):
            return 0
        wanted, domain, *nth = self.rest[0]
        if point != wanted or domain not in options:
            return 0
        self._passed += 1
        if nth and self._passed < nth[0]:
            return 0
        self._passed = 0
        self.rest.pop(0)
        return options.index(domain)
