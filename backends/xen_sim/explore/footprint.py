"""What a vCPU touched between two choices, and whether two such transitions can change places.

Two that touch different things come to the same in either order: so a search that takes one order
need not take the other. What is touched is memory, word by word; what Xen keeps, as one thing,
which a send only reads; and for each vCPU its interrupts, which it looks at wherever an interrupt
may land, and which others only ever raise: two that raise them do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from activations.errors import SimulationOver
from xen_sim.hardware.cpu import SteppedCPU
from xen_sim.schedule.step import Step
from xen_sim.schedule.tape import Tape

Thing = int | str
"""A word of memory, by a number; what Xen keeps; or a vCPU's interrupts, by its name."""
XEN = "Xen"
_EVERYTHING = "everything"

_READS = frozenset({"read"})
_LOOKS_ON = frozenset({"EVTCHNOP_send", "EVTCHNOP_unmask", "EVTCHNOP_status", "is_up", "yield_"})
"""Hypercalls that change nothing Xen keeps besides memory and interrupts."""
_WORD = 8


class Footprint(NamedTuple):
    """What a transition read, and what it wrote."""

    reads: frozenset[Thing]
    writes: frozenset[Thing]

    def meets(self, other: Footprint) -> bool:
        """Whether the order of the two can make a difference."""
        return not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
        )


class Redundant(SimulationOver):
    """Whatever this run could still show was seen in another one."""


class Footprints:
    """Notes what is touched, and by whom, from one choice to the next.

    A vCPU that runs without a choice has a transition of its own. What it notes is too much
    rather than too little: that costs runs, and hides nothing.
    """

    def __init__(self) -> None:
        self.actor: str = ""
        """Whose transition it is."""
        self.moved: Callable[[], None] = lambda: None
        """Called where the transition of one vCPU ends and another's begins with no choice."""
        self._reads: set[Thing] = set()
        self._writes: set[Thing] = set()
        self._meeting: set[Thing] = set()
        self._inside: dict[str, tuple[set[Thing], set[Thing]]] = {}
        """Who is within a hypercall, and what that may touch at any moment."""

    def all_meet(self) -> None:
        """Something is looked at before every step: no two of them are independent."""
        self._meeting = {_EVERYTHING}

    def begin(self, actor: str) -> None:
        """A transition of this vCPU's begins."""
        self.actor = actor
        reads, writes = self._inside.get(actor, ((), ()))
        self._reads, self._writes = set(reads), set(writes)

    def taken(self) -> Footprint:
        """What the transition has touched so far."""
        return Footprint(frozenset(self._reads), frozenset(self._writes | self._meeting))

    def step(self, actor: str, step: Step) -> None:
        """The access itself, or the entry of a hypercall."""
        self._of(actor)
        if step.kind == "hypercall":
            looks_on = step.what in _LOOKS_ON
            inside: tuple[set[Thing], set[Thing]]
            inside = ({XEN}, set()) if looks_on else (set(), {XEN, actor})
            self._inside[actor] = inside
            self._reads |= inside[0]
            self._writes |= inside[1]
        elif step.size:
            words = range(step.offset // _WORD, (step.offset + step.size - 1) // _WORD + 1)
            touched = self._reads if step.kind in _READS else self._writes
            touched.update(step.frame << 24 | word for word in words)

    def left_xen(self, actor: str) -> None:
        """It is in its own code again."""
        self._inside.pop(actor, None)

    def interrupts(self, actor: str) -> None:
        """A vCPU looks at its own interrupts, or changes what may be delivered."""
        self._of(actor)
        self._writes.add(actor)

    def raised(self, actor: str, by: str) -> None:
        """Something was raised for a vCPU, or it was woken; by another, or by the clock."""
        if by:
            self._of(by)
        self._reads.add(actor)

    def _of(self, actor: str) -> None:
        if actor != self.actor:
            self.moved()
            self.begin(actor)


class NotingTape(Tape):
    """A tape that wants to know what is touched between its choices."""

    def __init__(self) -> None:
        self.footprints: Footprints = Footprints()
        self.passed: list[Any] = []
        """What its strategy is to learn of the run."""


def noted(footprints: Footprints) -> type[SteppedCPU]:
    """A processor that notes what it touches."""

    class NotedCPU(SteppedCPU):
        __slots__ = ()

        def step(self, step: Step) -> None:
            super().step(step)
            footprints.left_xen(self.name)
            if self.interrupts:
                footprints.interrupts(self.name)
            footprints.step(self.name, step)

        def step_of_xen(self, step: Step) -> None:
            super().step_of_xen(step)
            footprints.step(self.name, step)

        def take_interrupt(self) -> None:
            footprints.interrupts(self.name)
            super().take_interrupt()

        def rest(self) -> None:
            footprints.interrupts(self.name)
            super().rest()
            footprints.interrupts(self.name)

        def sleep(self) -> None:
            footprints.interrupts(self.name)
            super().sleep()

        def give_way(self) -> None:
            footprints.interrupts(self.name)
            super().give_way()

        def interrupt(self) -> None:
            self._raised()
            super().interrupt()

        def wake(self) -> None:
            self._raised()
            super().wake()

        def kick(self) -> None:
            self._raised()
            super().kick()

        def _raised(self) -> None:
            running = self.scheduler.current
            footprints.raised(self.name, running.name if running is not None else "")

    return NotedCPU
