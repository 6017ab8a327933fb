"""The handshake's two tables against each other: whatever happens, they come together.

Every world is visited that the ends can get into by reading the other's state, by acting on what
was read (which may be old by then), and by dying and coming back at any point.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from activations.abi.xenbus import XenbusState as State
from activations.xenbus.states import BACK, FRONT, Phase, Step, Table, next_step


@dataclass(frozen=True)
class End:
    """One end: where it stands, what it wrote, what it last read and has not acted upon."""

    phase: Phase = Phase.FRESH
    says: State = State.INITIALISING
    read: State | None = None
    rings: int = 0
    """The front end's: `LIVING`, or 0 without. The back end's: whose it maps."""


@dataclass(frozen=True)
class World:
    front: End = End()
    back: End = End()


Move = Callable[[World], World]
LIVING, DEAD = 1, 2


def front_reads(world: World) -> World:
    return replace(world, front=replace(world.front, read=world.back.says))


def back_reads(world: World) -> World:
    return replace(world, back=replace(world.back, read=world.front.says))


def front_acts(world: World) -> World:
    step, end = act(FRONT, world.front)
    back = world.back
    if step is Step.PUBLISH:
        end = replace(end, rings=LIVING)
    elif step is Step.LEAVE:
        end, back = replace(end, rings=0), orphaned(back)
    return replace(world, front=end, back=back)


def back_acts(world: World) -> World:
    read = world.back.read
    step, end = act(BACK, world.back)
    if step is Step.LEAVE:
        end = replace(end, rings=0)
    elif step is Step.CONNECT and world.front.rings:
        end = replace(end, rings=LIVING)
    elif step is Step.CONNECT and read is world.front.says:  # keys of a dead front end
        end = End(Phase.FAILED, State.CLOSING)
    elif step is Step.CONNECT:  # the same, but it has gone on meanwhile
        end = End(Phase.OFFERED, State.INIT_WAIT)
    return replace(world, back=end)


def front_dies(world: World) -> World:
    return replace(world, front=reborn(world.front), back=orphaned(world.back))


def back_dies(world: World) -> World:
    return replace(world, back=reborn(world.back))


def act(table: Table, end: End) -> tuple[Step, End]:
    if end.read is None or (todo := next_step(table, end.phase, end.read)) is None:
        return Step.REST, replace(end, read=None)
    step, to = todo
    return step, replace(end, phase=to, says=to.says or end.says, read=None)


def reborn(end: End) -> End:
    fresh = end.says in (State.UNKNOWN, State.INITIALISING)
    return End(Phase.FRESH if fresh else Phase.RESUMED, end.says)


def orphaned(back: End) -> End:
    return replace(back, rings=DEAD) if back.rings else back


DOCUMENT = Path(__file__).parents[1] / "docs" / "xenbus.md"

MOVES: tuple[Move, ...] = (
    front_reads,
    front_acts,
    back_reads,
    back_acts,
    front_dies,
    back_dies,
)


@pytest.fixture(scope="module")
def worlds() -> set[World]:
    """All worlds that can be."""
    found = {World()}
    todo = deque(found)
    while todo:
        world = todo.popleft()
        new = {move(world) for move in MOVES} - found
        found |= new
        todo.extend(new)
    return found


def settled(world: World, moves: tuple[Move, ...]) -> World:
    """The world once no end moves any more, if both are let do what they want."""
    for _ in range(40):
        before = world
        for move in moves:
            world = move(world)
        if world == before:
            return world
    raise AssertionError(f"never at rest: {world}")


def test_deaths_take_the_ends_to_hundreds_of_worlds(worlds: set[World]) -> None:
    """Else the rules below would say little."""
    assert len(worlds) > 400
    phases = {world.front.phase for world in worlds} | {world.back.phase for world in worlds}
    assert phases >= {Phase.STALE, Phase.PARTING, Phase.FAILED, Phase.RESUMED, Phase.CLOSED}


@pytest.mark.parametrize(
    "moves",
    [
        (front_reads, front_acts, back_reads, back_acts),
        (back_reads, back_acts, front_reads, front_acts),
    ],
    ids=["front first", "back first"],
)
def test_from_every_world_they_connect_once_nobody_dies_any_more(
    worlds: set[World], moves: tuple[Move, ...]
) -> None:
    for world in worlds:
        end = settled(world, moves)
        assert (end.front.phase, end.back.phase) == (Phase.CONNECTED, Phase.CONNECTED), world


@pytest.mark.parametrize("moves", [(front_reads, front_acts, back_reads, back_acts)])
def test_connected_ends_share_the_rings_of_the_living(
    worlds: set[World], moves: tuple[Move, ...]
) -> None:
    for world in worlds:
        end = settled(world, moves)
        assert (end.front.rings, end.back.rings) == (LIVING, LIVING), world


@pytest.mark.parametrize("front_says", State)
def test_an_unplugged_back_end_goes_when_the_front_end_has_no_rings_any_more(
    front_says: State,
) -> None:
    gone = next_step(BACK, Phase.UNPLUGGING, front_says)
    in_use = {
        State.INITIALISED,
        State.CONNECTED,
        State.CLOSING,
        State.RECONFIGURING,
        State.RECONFIGURED,
    }
    assert gone == (None if front_says in in_use else (Step.LEAVE, Phase.UNPLUGGED))


@pytest.mark.parametrize("table", [FRONT, BACK], ids=["front", "back"])
def test_an_end_that_failed_does_not_try_again_by_itself(table: Table) -> None:
    """It would fail again, and again: it waits until the other end begins anew."""
    for says in (State.INIT_WAIT, State.INITIALISED, State.CONNECTED):
        assert next_step(table, Phase.FAILED, says) is None


@pytest.mark.parametrize("table", [FRONT, BACK], ids=["front", "back"])
def test_the_document_shows_the_tables_as_they_are(table: Table) -> None:
    assert "\n".join(documented(table)) in DOCUMENT.read_text()


def documented(table: Table) -> list[str]:
    """The table in Markdown: for each phase, what the other end may say, and what comes of it."""
    lines = []
    for phase, row in table.items():
        outcomes: dict[tuple[Step, Phase], list[str]] = {}
        for says, todo in row.items():
            outcomes.setdefault(todo, []).append(says.name)
        for (step, to), states in outcomes.items():
            said = "anything" if len(states) == len(State) else ", ".join(sorted(states))
            lines.append(f"| {phase.name} | {said} | {step.name} | {to.name} |")
    return lines
