"""What a machine asks: whether a fault happens, here.

A run has two phases. In the first, faults happen; that nothing is broken by them is its safety. The
second begins behind the last fault that a run may have, and from then on the world is well: a
program that has not recovered by its end is found out as for a deadlock or a livelock.
"""

from __future__ import annotations

from collections.abc import Sequence

from activations.errors import SimulationOver
from xen_sim.faults.kinds import Enabled
from xen_sim.schedule.scheduler import Scheduler
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

ORDINARY = "as ever"
"""Option 0: nothing goes wrong."""

MOST = 16
"""Faults of a run."""

QUESTIONS = 20_000
"""Times that a run is asked whether something goes wrong. Its steps are more: see `BUDGET`."""


class Faults:
    """The faults of one machine."""

    def __init__(self, tape: Tape, enabled: Enabled, scheduler: Scheduler) -> None:
        self.enabled = enabled
        self.happened: int = 0
        self._tape = tape
        self._scheduler = scheduler
        self._asked = 0

    @property
    def calm(self) -> bool:
        """Whether the second phase has begun: nothing goes wrong any more."""
        return self.happened >= MOST or self._asked >= QUESTIONS

    def of(self, kind: str) -> bool:
        """Whether anything of this kind may happen."""
        return any(each == kind for each, _ in self.enabled)

    def ask(self, kind: str, who: str, what: str, *names: str) -> str:
        """Which of these faults of a kind befalls this vCPU in what it is about to do; `ORDINARY`
        for none."""
        return self.choose(
            kind, who, what, [name for name in names if (kind, name) in self.enabled]
        )

    def choose(self, kind: str, who: str, what: str, options: Sequence[str]) -> str:
        """As `ask`, of faults that are enabled, in words of their own."""
        if not options or self.calm:
            return ORDINARY
        self._asked += 1
        answer = self._answer(Choice(f"{who}: {what}", (ORDINARY, *options), fault=kind))
        self.happened += answer > 0
        return options[answer - 1] if answer else ORDINARY

    def _answer(self, choice: Choice) -> int:
        try:
            return self._tape.choose(choice)
        except SimulationOver as error:
            running = self._scheduler.current
            if running is None:
                raise
            self._scheduler.end(running, error)
