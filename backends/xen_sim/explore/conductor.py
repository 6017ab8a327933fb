"""The tape of an explored run: another tape decides, and what it came to is noted.

It notes no more than a search needs, since it is asked at every step: which choices were answered
otherwise, how many options each had, and where one vCPU was seen to come between two steps of
another. `Telling` notes all of it, for the one run that is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from activations.errors import SimulationOver
from xen_sim.explore.course import Course, Deviation
from xen_sim.explore.finding import LIVELOCK, Finding
from xen_sim.explore.footprint import Footprints, NotingTape
from xen_sim.explore.report import DEVIATION, FAULT, SAID, Moment, Pairs
from xen_sim.schedule.step import Choice, Step
from xen_sim.schedule.tape import Taken, Tape

BUDGET = 100_000
"""Steps of a run; one that takes more is a livelock."""


class Broken(SimulationOver):
    """A promise was broken: the run is over."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Conductor(Tape):
    """One run's tape."""

    def __init__(self, tape: Tape, budget: int = BUDGET) -> None:
        self._choose = tape.choose
        self._tape = tape
        self._budget = budget
        self.steps: int = 0
        self.options: bytearray = bytearray()
        self.preemptions: bytearray = bytearray()
        self.coverage: set[int] = set()
        self.over: bool = False
        """What comes from now on is not part of the run any more: domains are cleaning up."""
        self.checks: list[tuple[Callable[[], object], str]] = []
        """What has to be so before every step."""
        self._deviations: list[Deviation] = []
        self._points: dict[str, str] = {}
        """Where each vCPU stands, by its name."""
        self._running = False

    @property
    def footprints(self) -> Footprints | None:
        """What is to note what is touched, where the tape wants to know."""
        return self._tape.footprints if isinstance(self._tape, NotingTape) else None

    @property
    def passed(self) -> tuple[Any, ...]:
        """What its strategy is to learn of the run."""
        return tuple(self._tape.passed) if isinstance(self._tape, NotingTape) else ()

    @property
    def course(self) -> Course:
        return tuple(self._deviations)

    def begin(self, run: Sequence[str]) -> None:
        self._running = True
        self._tape.begin(run)

    def choose(self, choice: Choice) -> int:
        if self.over:
            return 0
        self._spend()
        try:
            answer = self._choose(choice)
        except SimulationOver:
            self.over = True
            raise
        step = choice.step
        self.preemptions.append(step is not None or bool(choice.fault))
        self.options.append(min(len(choice.options), 255))
        if step is not None:
            self._points[choice.options[0]] = choice.point
        if answer:
            self._deviations.append(Deviation(len(self.options) - 1, answer))
            there = self._points.get(choice.options[answer], "")
            self.coverage.add(crc32(f"{choice.point}|{there}".encode()))
        return answer

    def alone(self, name: str, step: Step) -> None:
        if self._running and not self.over:
            self._spend()

    def end(self, failure: BaseException | None) -> None:
        self._tape.end(failure)

    def _spend(self) -> None:
        self.steps += 1
        if self.steps > self._budget:
            self.stop(Finding(LIVELOCK, f"{self._budget:,} steps, and no end"))
        for check, said in self.checks:
            if not check():
                self.stop(Finding("invariant", said))

    def look(self) -> None:
        """The last step has been taken."""

    def stop(self, finding: Finding) -> None:
        """The run is over here."""
        self.over = True
        raise Broken(finding)


class Telling(Conductor):
    """Notes every question, and every step as a `Moment`."""

    def __init__(
        self, tape: Tape, budget: int = BUDGET, now: Callable[[], int] = lambda: 0
    ) -> None:
        super().__init__(tape, budget)
        self.taken: list[Taken] = []
        self.moments: list[Moment] = []
        self.actors: tuple[str, ...] = ()
        self.now = now
        self.looking: Callable[[], tuple[Pairs, Pairs]] = lambda: ((), ())
        """What has happened to events and ports since it was asked last."""

    def begin(self, run: Sequence[str]) -> None:
        super().begin(run)
        self.actors = tuple(run)
        self.looking()

    def look(self) -> None:
        events, changes = self.looking()
        if self.moments and (events or changes):
            self.moments[-1] = replace(self.moments[-1], events=events, changes=changes)

    def choose(self, choice: Choice) -> int:
        if self.over:
            return 0
        answer = super().choose(choice)
        self.taken.append(Taken(*choice.asked, answer))
        step, chosen = choice.step, choice.options[answer]
        if choice.fault:
            if answer:
                who, _, what = choice.point.partition(": ")
                self._note(who, f"{what}: {chosen}", FAULT)
        elif step is None:
            if answer:
                self._note(chosen, choice.point, DEVIATION)
        elif answer:
            self._note(choice.options[0], f"about to {step}", DEVIATION)
        else:
            self._note(choice.options[0], str(step))
        return answer

    def alone(self, name: str, step: Step) -> None:
        if self._running and not self.over:
            super().alone(name, step)
            self._note(name, str(step))

    def write(self, actor: str, line: str) -> None:
        """A domain printed this line."""
        if not self.over:
            self._note(actor, f"prints {line!r}", SAID)

    def _note(self, actor: str, what: str, mark: str = "", note: str = "") -> None:
        self.look()
        self.moments.append(Moment(actor, what, mark, note, self.now()))
