"""What the explorer asks of an engine: make one run, and say what it was like.

The language (course, token, finding, report, verdict) knows no engine. An engine that searches by
itself, as one for kernels' C does, gives a `Verdict` and needs none of this; one that makes runs
gives a `Run` for each tape, and every strategy works on it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from xen_sim.explore.course import Course
from xen_sim.explore.finding import Finding
from xen_sim.explore.report import Moment
from xen_sim.faults.kinds import Enabled
from xen_sim.schedule.tape import Taken, Tape


@dataclass(frozen=True, slots=True)
class Program:
    """What is explored."""

    name: str
    identity: str
    """Its name, its domains and how they are built: what has to be the same for a token to fit."""


class Run(NamedTuple):
    """What one run was like, small enough to be sent from a worker."""

    course: Course
    options: bytes
    """How many options each choice had."""
    preemptions: bytes
    """For each choice, 1 if another answer than 0 preempts somebody, else 0."""
    steps: int
    coverage: frozenset[int]
    """See `Figures.coverage`."""
    sometimes: dict[str, bool]
    """What has to be so in some run, and whether it was so in this one."""
    finding: Finding | None
    state: int = 0
    """A digest of the memory that domains and Xen share, as the run left it."""
    passed: tuple[Any, ...] = ()
    """What a tape that notes footprints wants its strategy to learn."""


class Account(NamedTuple):
    """A run told in full."""

    run: Run
    taken: tuple[Taken, ...]
    """Every question and its answer."""
    moments: tuple[Moment, ...]
    actors: tuple[str, ...]


class Engine(Protocol):
    """Makes runs of one program."""

    @property
    def program(self) -> Program: ...

    @property
    def seed(self) -> int:
        """Of the program's own chance."""

    @property
    def reducible(self) -> bool:
        """Whether its vCPUs share nothing but memory and Xen, so that runs which differ in the
        order of independent steps are the same."""

    def session(self) -> AbstractContextManager[None]:
        """Around many runs."""

    def run(self, tape: Tape) -> Run:
        """A run under this tape."""

    def tell(self, tape: Tape) -> Account:
        """A run under this tape, told in full."""


@runtime_checkable
class TakesFaults(Engine, Protocol):
    """An engine in whose runs something may go wrong besides the order of steps."""

    @property
    def faults(self) -> Enabled:
        """What may."""

    def faulty(self, faults: str) -> Engine:
        """An engine for the same program where these faults happen, and no others."""
