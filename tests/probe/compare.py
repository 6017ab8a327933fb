"""Programs on a real Xen and on the simulator: the first answer that differs, shrunk and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from xen_oracle.compare import plainer
from xen_oracle.program import Kind, Step, command_name
from xen_oracle.tell import tell_bytes, tell_result, tell_where

from . import simulated
from .module import Answer
from .programs import Asked, Guest, begin
from .steps import tell

OnXen = Callable[[Sequence[Asked]], Sequence[tuple[int, Sequence[Answer]]]]
"""Does steps on a real Xen: of each guest its domid, and what became of each step."""
ROUNDS = 24
"""Guests that a difference is shrunk in, at most."""


class Recording(NamedTuple):
    """What a real Xen answered."""

    guest: Guest
    domid: int
    steps: Sequence[Step]
    answers: Sequence[Answer]


class Difference(NamedTuple):
    """Where the simulator first went another way."""

    guest: Guest
    steps: Sequence[Step]
    """Of the program that showed it, up to the one that did."""
    key: tuple[str, str]
    """What kind of step it was, and what of its answer."""
    xen: str
    simulator: str

    def __str__(self) -> str:
        steps = "\n".join(f"  {tell(step)}" for step in self.steps)
        return (
            f"differs: {', '.join(self.key)}\n{self.guest}\n{steps}\n"
            f"Xen:       {self.xen}\nsimulator: {self.simulator}"
        )


def record(on_xen: OnXen, asked: Sequence[Asked]) -> list[Recording]:
    """What a real Xen answers to all of it."""
    return [
        Recording(guest, domid, steps, answers)
        for (guest, steps), (domid, answers) in zip(asked, on_xen(asked), strict=True)
    ]


def differences(recording: Recording) -> Iterator[Difference]:
    """The first of each program that differs, with all steps of the program up to there."""
    guest, domid, steps, said = recording
    ours = simulated.answers(
        steps,
        guest.delivery,
        guest.vcpus,
        guest.max_event_channels,
        domid,
        with_peer=guest.peer,
    )
    first, found = 0, False
    before = Answer(0, False, (0,) * guest.vcpus, b"", ())
    xen_before = our_before = before
    for index, (step, xen, our) in enumerate(zip(steps, said, ours, strict=True)):
        if step == begin(1)[0]:
            first, found = index, False
        if not found and (seen := _seen(step, xen, our, xen_before, our_before)):
            found = True
            what, theirs, other = seen
            name = command_name(step.number) if step.kind == 0 else step.kind.name.lower()
            yield Difference(guest, steps[first : index + 1], (name, what), theirs, other)
        xen_before, our_before = xen, our


def _seen(
    step: Step, xen: Answer, our: Answer, xen_before: Answer, our_before: Answer
) -> tuple[str, str, str] | None:
    """What differs in two answers, each with the one before it."""
    if xen.result != our.result:
        return "result", tell_result(xen.result), tell_result(our.result)
    if xen.argument != our.argument:
        return "argument", tell_bytes(xen.argument), tell_bytes(our.argument)
    if xen.slept != our.slept:
        return "slept", str(xen.slept), str(our.slept)
    upcalls = [
        [now - then for now, then in zip(answer.upcalls, before.upcalls, strict=True)]
        for answer, before in ((xen, xen_before), (our, our_before))
    ]
    if upcalls[0] != upcalls[1]:
        return "upcalls", str(upcalls[0]), str(upcalls[1])
    if xen.changes != our.changes:
        theirs, others = dict(xen.changes), dict(our.changes)
        for where in sorted(theirs.keys() | others.keys()):
            values = [changes.get(where) for changes in (theirs, others)]
            if values[0] != values[1]:
                both = ["as it was" if value is None else f"{value:#x}" for value in values]
                return tell_where(0, where >> 16, where & 0xFFFF), both[0], both[1]
    return None


def agree(on_xen: OnXen, recordings: Sequence[Recording]) -> int:
    """Hold the simulator against these: how many steps there are. AssertionError, with what
    differs, shrunk.

    Where something does, all of it is asked of another guest, and that one's answers count: what
    Xen says in one way and then in another, the emulated processor does (docs/truth.md).
    """
    for recording in recordings:
        if any(differences(recording)):
            (recording,) = record(on_xen, [(recording.guest, recording.steps)])
        for found in differences(recording):
            raise AssertionError(f"{shrunk(on_xen, found)}\n\nfirst:\n{found}")
    return sum(len(recording.steps) for recording in recordings)


# Shrinking: all ways to leave out some steps are tried at once, in one guest


def shrunk(on_xen: OnXen, found: Difference) -> Difference:
    """A shorter, plainer program that differs in the same kind of answer. One that does so only
    after the programs before it stays as it is."""
    best = _any_alike(on_xen, found, [_body(found)])
    if best is None:
        return found
    part = max(len(_body(best)) // 2, 1)
    for _ in range(ROUNDS):
        steps = _body(best)
        without = [[*steps[:at], *steps[at + part :]] for at in range(0, len(steps), part)]
        if shorter := _any_alike(on_xen, found, without):
            best = shorter
        elif part > 1:
            part = max(part // 4, 1)
        else:
            break
    return _any_alike(on_xen, found, list(_plainer(_body(best)))) or best


def _body(found: Difference) -> Sequence[Step]:
    """Its steps without those that every program begins with."""
    return found.steps[found.guest.vcpus :]


def _plainer(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    for at, step in enumerate(steps):
        if step.kind == Kind.EVENT_CHANNEL_OP:
            for other in plainer(step):
                if other != step:
                    yield [*steps[:at], other, *steps[at + 1 :]]


def _any_alike(
    on_xen: OnXen, found: Difference, bodies: Sequence[Sequence[Step]]
) -> Difference | None:
    """The shortest of these programs that differ in this kind of answer, if any does."""
    steps = [step for body in bodies for step in (*begin(found.guest.vcpus), *body)]
    if not steps:
        return None
    (recording,) = record(on_xen, [(found.guest, steps)])
    again = differences(recording)
    alike = (each for each in again if each.key == found.key)
    return min(alike, key=lambda each: len(each.steps), default=None)
