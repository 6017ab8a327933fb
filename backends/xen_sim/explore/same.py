"""Whether a program is deterministic: the same answers, twice, have to give the same run.

The second run is held against the first, question by question. Where it asks otherwise, something
that is not part of the simulation had its say before: the first such place is named.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import greenlet

import activations
import xen_sim
from xen_sim.explore.course import ORDINARY, Following, asked
from xen_sim.explore.engine import Engine
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Taken, Tape

_LIBRARIES = tuple(
    str(Path(module.__file__).parent)
    for module in (asyncio, activations, xen_sim, greenlet)
    if module.__file__
)


class SameAgain(Tape):
    """The ordinary course, held against another run of it."""

    def __init__(self, before: Sequence[Taken]) -> None:
        self._before = before
        self._met = 0
        self.differs: str = ""

    def choose(self, choice: Choice) -> int:
        if not self.differs:
            number = self._met
            self._met += 1
            if number == len(self._before):
                self.differs = f"the run that had {number} choices went on: {asked(choice)}"
            elif self._before[number][:2] != choice.asked:
                before = self._before[number]
                self.differs = f"choice {number} was {before}, and then {asked(choice)}"
            if self.differs:
                self.differs += f", {_place(sys._getframe(1))}"
        return 0


def escape(engine: Engine) -> str | None:
    """Where the program went another way; None where it did not."""
    first = engine.tell(Following(ORDINARY))
    again = SameAgain(first.taken)
    second = engine.tell(again)
    if again.differs:
        return f"the same run twice: {again.differs}"
    if len(second.taken) < len(first.taken):
        return f"the same run twice: {len(first.taken)} choices, and then {len(second.taken)}"
    if first.run.state != second.run.state:
        return "the same run twice: it ended in another state, or with another result"
    return None


def _place(frame: FrameType | None) -> str:
    """The program's innermost line."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith((*_LIBRARIES, "<")):
            return f"in {code.co_qualname}, {Path(code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "where no line of the program's was running"
