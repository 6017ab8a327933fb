"""A verdict: what a search says of a program, and what it rests on.

    found                        a promise was broken; here is how
    exhausted                    every course was taken, and none breaks a promise
    exhausted at k preemptions   every course with at most so many
    not exhausted                nothing was found in what was covered

What a search leaves out is part of what it says, in all four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from xen_sim.explore.course import Course
from xen_sim.explore.finding import Finding
from xen_sim.explore.report import Moment, table

INTERRUPTED = "interrupted"
"""The note of a search that Ctrl-C ended."""
FOUND, EXHAUSTED, BOUNDED, OPEN = "found", "exhausted", "exhausted at", "not exhausted"

PYTHON_GRAIN = (
    "the processors' own reordering (store buffers, arm64)",
    "an interrupt that comes later than the next step",
)
"""What every search of programs in Python leaves out."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, with all that it takes to see it again."""

    finding: Finding
    token: str
    course: Course
    moments: tuple[Moment, ...] = ()
    actors: tuple[str, ...] = ()
    strategy: str = ""
    """By which it was found first."""
    runs: int = 0
    """How many runs that took, of all strategies together."""

    def table(self, width: int = 36, *, whole: bool = False) -> str:
        return table(self.moments, self.actors, width, whole=whole)

    def how(self) -> str:
        """How it was found, and how far from the ordinary course."""
        few = f"{len(self.course)} deviation{'s' if len(self.course) != 1 else ''}"
        deviations = few if self.course else "no deviation"
        return f"{deviations} from the ordinary course; found by {self.strategy}, run {self.runs:,}"


@dataclass(slots=True)
class Figures:
    """What was covered."""

    runs: int = 0
    seconds: float = 0.0
    steps: int = 0
    """Of all runs together."""
    depth: int = 0
    """The most choices that one run met."""
    coverage: int = 0
    """Different ways in which one vCPU was seen to come between two steps of another."""
    states: int = 0
    """Where an engine counts them."""

    def __str__(self) -> str:
        parts = [f"{self.runs:,} run{'' if self.runs == 1 else 's'}", f"{self.seconds:.2f} s"]
        if self.states:
            parts.append(f"{self.states:,} states")
        parts.append(f"at most {self.depth:,} choices in one")
        if self.coverage:
            parts.append(f"{self.coverage:,} interleavings of two steps")
        return ", ".join(parts)


@dataclass(slots=True)
class Verdict:
    """What a search says."""

    program: str
    kind: str
    figures: Figures
    found: Sequence[Found] = ()
    bound: int | None = None
    """k, where it was exhausted at k."""
    counted: str = "preemptions"
    """What k counts."""
    leaves_out: Sequence[str] = PYTHON_GRAIN
    notes: list[str] = field(default_factory=list)
    """What else is to be known: a worker that died, what was cut."""
    broken_off: bool = False
    """The workers died, one after the other, and what they were about to do was left out: that
    nothing was found says nothing."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search."""
        return INTERRUPTED in self.notes

    def facts(self) -> dict[str, object]:
        """For programs."""
        return {
            "program": self.program,
            "verdict": self.kind,
            "bound": self.bound,
            "counted": self.counted,
            "statistics": asdict(self.figures),
            "found": [
                {"kind": each.finding.kind, "said": each.finding.said, "token": each.token}
                for each in self.found
            ],
            "leaves_out": list(self.leaves_out),
            "notes": self.notes,
        }

    def __bool__(self) -> bool:
        """Whether nothing was found."""
        return self.kind != FOUND

    def __str__(self) -> str:
        if self.kind == FOUND:
            said = "; ".join(str(each.finding).partition("\n")[0] for each in self.found)
            return f"{self.program}: found {said} ({self.figures})"
        if self.kind == BOUNDED:
            return f"{self.program}: exhausted at {self._reach()} ({self.figures})"
        if self.kind == OPEN and self.bound is not None:
            reach = f"exhausted at {self._reach()}, and not beyond"
            return f"{self.program}: not exhausted; {reach} ({self.figures})"
        return f"{self.program}: {self.kind} ({self.figures})"

    def _reach(self) -> str:
        return f"{self.bound} {self.counted.rstrip('s') if self.bound == 1 else self.counted}"
