"""Partial-order reduction: of all courses that differ only in the order of steps that do not depend
on each other, one is taken, with no bound on preemptions.

A depth-first search over what each run touched (`explore.footprint`). Where two transitions of a
run meet, neither of them because of something in between, the other order is tried as well: a
backtrack point, where the first of the two was chosen (dynamic partial-order reduction). What was
tried at a node sleeps below its other options until something is done that it depends on, and a run
all of whose vCPUs sleep is given up: all that it could show was seen (sleep sets).

Sources: Flanagan and Godefroid, POPL 2005; Godefroid, LNCS 1032, chapter 5. It is treacherous: the
tests hold the set of its final states against that of a search which reduces nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xen_sim.explore.engine import Run
from xen_sim.explore.footprint import Footprint, NotingTape, Redundant
from xen_sim.explore.strategies import Claim, Recipe
from xen_sim.schedule.step import RUN_NEXT, Choice
from xen_sim.schedule.tape import Diverged, Tape

Sleep = tuple[tuple[str, Footprint], ...]
"""vCPUs whose next transition, with this footprint, was tried already and met nothing since."""

UNTOUCHED = Footprint(frozenset(), frozenset())
FORCED = -1
"""The answer of a transition without a choice."""


@dataclass(slots=True)
class Passed:
    """A transition of a run: what was asked, what was taken, and what it touched."""

    actor: str
    options: tuple[str, ...] = ()
    """Who could run, or what could happen; empty where there was no choice."""
    answer: int = FORCED
    free: bool = False
    """A choice that is not among vCPUs: what comes first at one instant, for one. All of its
    options are tried."""
    asleep: Sleep = ()
    """Who slept as it began."""
    footprint: Footprint = UNTOUCHED


class ReducedTape(NotingTape):
    """Takes the answers it was given, and then one that does not sleep."""

    def __init__(self, answers: bytes, asleep: Sleep) -> None:
        super().__init__()
        self.cut: bool = False
        """Whether it was given up as redundant."""
        self._answers = answers
        self._given = asleep
        """Who sleeps as the last of the answers is taken."""
        self._met = 0
        self._asleep: Sleep = ()
        self._now: Passed | None = None

    def begin(self, run: object) -> None:
        self.footprints.moved = self._moved

    def choose(self, choice: Choice) -> int:
        self._close()
        number, self._met = self._met, self._met + 1
        free = choice.step is None and choice.point != RUN_NEXT
        if number < len(self._answers):
            answer = self._answers[number]
            if answer >= len(choice.options):
                raise Diverged(f"choice {number} has no option {answer} any more: {choice.point!r}")
            if number + 1 == len(self._answers):
                self._asleep = self._given
        else:
            answer = self._first_awake(choice, free)
        actor = "" if free else choice.options[answer]
        self._begin(Passed(actor, choice.options, answer, free, self._asleep))
        if free:
            self._asleep = ()
        return answer

    def end(self, failure: BaseException | None) -> None:
        self._close()
        self.footprints.moved = lambda: None

    def _first_awake(self, choice: Choice, free: bool) -> int:
        asleep = {actor for actor, _ in self._asleep}
        for answer, actor in enumerate(choice.options):
            if free or actor not in asleep:
                return answer
        self.cut = True
        self.footprints.moved = lambda: None
        raise Redundant("all that could run sleep")

    def _begin(self, passed: Passed) -> None:
        self._now = passed
        self.passed.append(passed)
        self.footprints.begin(passed.actor)

    def _moved(self) -> None:
        """A vCPU runs without a choice."""
        self._close()
        self._begin(Passed("", asleep=self._asleep))

    def _close(self) -> None:
        """The transition is over: whom it met is awake again."""
        now, self._now = self._now, None
        if now is None:
            return
        now.actor = now.actor or self.footprints.actor
        footprint = now.footprint = self.footprints.taken()
        self._asleep = tuple(
            (actor, theirs)
            for actor, theirs in self._asleep
            if actor != now.actor and not theirs.meets(footprint)
        )


class ReducedRecipe(NamedTuple):
    """These answers, the last of them where these sleep."""

    answers: bytes
    asleep: Sleep

    def tape(self) -> Tape:
        return ReducedTape(*self)


@dataclass(slots=True)
class _Node:
    """A choice of the course that is being searched."""

    options: tuple[str, ...]
    free: bool
    asleep: Sleep
    answer: int
    at: int
    """Which transition of the run it chose."""
    footprint: Footprint
    """Of that transition."""
    tried: dict[int, Footprint] = field(default_factory=dict)
    wanted: set[int] = field(default_factory=set)
    """Backtrack points."""

    def following(self) -> int | None:
        """What is to be tried next, once all below the present answer has been."""
        self.tried[self.answer] = self.footprint
        asleep = {actor for actor, _ in self.asleep}
        for answer in sorted(self.wanted):
            if answer not in self.tried and (self.free or self.options[answer] not in asleep):
                return answer
        return None

    def sleepers(self) -> Sleep:
        """Who sleeps below the next answer: also those that were tried here."""
        if self.free:
            return ()
        tried = ((self.options[answer], each) for answer, each in self.tried.items())
        return (*self.asleep, *tried)


class Reduced:
    """One run at a time: where the next one goes depends on what the last one met."""

    name = "partial-order reduction"

    def __init__(self) -> None:
        self._path: list[_Node] = []
        self._next: ReducedRecipe | None = ReducedRecipe(b"", ())
        self._out = False

    def next(self) -> Recipe | None:
        if self._out or self._next is None:
            return None
        self._out = True
        return self._next

    def learn(self, recipe: Recipe, run: Run) -> None:
        assert isinstance(recipe, ReducedRecipe)
        self._out = False
        fresh = self._extend(len(recipe.answers), run.passed)
        self._look_for_races(run.passed, fresh)
        self._next = self._deeper()

    def claim(self) -> Claim | None:
        return Claim(None) if self._next is None else None

    def _extend(self, known: int, passed: Sequence[Passed]) -> int:
        """Take the run's choices on the path, behind those it was told; the first transition that
        no other run has made before."""
        asked = [at for at, each in enumerate(passed) if each.answer != FORCED]
        if known:
            last = self._path[-1]
            last.at, last.footprint = asked[known - 1], passed[asked[known - 1]].footprint
        for at in asked[known:]:
            each = passed[at]
            wanted = set(range(len(each.options))) if each.free else {each.answer}
            node = _Node(each.options, each.free, each.asleep, each.answer, at, each.footprint)
            node.wanted = wanted
            self._path.append(node)
        return asked[known - 1] if known else 0

    def _deeper(self) -> ReducedRecipe | None:
        """The deepest node at which something is left to be tried."""
        while self._path:
            node = self._path[-1]
            answer = node.following()
            if answer is not None:
                asleep = node.sleepers()
                node.answer = answer
                return ReducedRecipe(bytes(each.answer for each in self._path), asleep)
            self._path.pop()
        return None

    def _look_for_races(self, passed: Sequence[Passed], fresh: int) -> None:
        """Want the other order of each two that meet, neither because of something in between."""
        nodes = {node.at: node for node in self._path}
        before: list[int] = []
        """For each transition, a bit for each that happens before it."""
        last: dict[str, int] = {}
        for at, each in enumerate(passed):
            seen = 0
            if each.actor in last:
                mine = last[each.actor]
                seen = before[mine] | 1 << mine
            for earlier in range(at - 1, -1, -1):
                if seen >> earlier & 1 or not each.footprint.meets(passed[earlier].footprint):
                    continue
                if at >= fresh and earlier in nodes:
                    self._want(nodes[earlier], each.actor, passed, earlier, seen)
                seen |= before[earlier] | 1 << earlier
            before.append(seen)
            last[each.actor] = at

    def _want(
        self, node: _Node, actor: str, passed: Sequence[Passed], earlier: int, seen: int
    ) -> None:
        """Have a vCPU run here that brings the later one before the earlier one: its own, or one
        that it happened after; all, where none of them could run."""
        if node.free:
            return
        leading = [actor] + [
            passed[at].actor for at in range(earlier + 1, len(passed)) if seen >> at & 1
        ]
        for each in leading:
            if each in node.options:
                node.wanted.add(node.options.index(each))
                return
        node.wanted.update(range(len(node.options)))
