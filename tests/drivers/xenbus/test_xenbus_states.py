"""The handshake's tables against each other, and against peers that are not ours: whatever happens,
the ends come together.

Every world is visited that the ends can get into by looking and by acting on what they saw, which
may be old by then; by dying and coming back at any point; by a device made anew under their hands;
and by peers that wait for nobody, so that a watch may miss any state of theirs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.places import DOCS
from support.xenbus_worlds import (
    HASTY_BACK,
    HASTY_FRONT,
    LIVING,
    OURS,
    End,
    Move,
    World,
    back_acts,
    back_connects,
    back_connects_and_more,
    back_dies,
    back_reads,
    begins_anew_unseen,
    blkback,
    circles,
    front_acts,
    front_dies,
    front_fails,
    front_reads,
    front_says,
    made_anew_in_place,
    netback,
    offers_anew_unseen,
    settled,
    worlds,
)

from activations.abi.xenbus import XenbusState as State
from activations.xenbus.states import (
    BACK,
    BACK_AGAIN,
    FRONT,
    FRONT_AGAIN,
    Phase,
    Step,
    Table,
    next_step,
)

DOCUMENT = DOCS / "xenbus.md"

FRONT_FIRST = OURS
BACK_FIRST = (*OURS[2:], *OURS[:2])


def assert_connected(world: World, before: World) -> None:
    """Both ends are, on rings of the front end's present life."""
    assert (world.front.phase, world.back.phase) == (Phase.CONNECTED, Phase.CONNECTED), before
    assert (world.front.rings, world.back.rings) == (LIVING, LIVING), before


# Our ends


@pytest.fixture(scope="module")
def reached() -> set[World]:
    """All worlds that ours get into."""
    return worlds([*OURS, front_dies, back_dies, made_anew_in_place])


def test_deaths_take_the_ends_to_thousands_of_worlds(reached: set[World]) -> None:
    """Else the rules below would say little."""
    assert len(reached) > 2000
    phases = {world.front.phase for world in reached} | {world.back.phase for world in reached}
    assert phases >= {Phase.STALE, Phase.PARTING, Phase.FAILED, Phase.RESUMED, Phase.CLOSED}


@pytest.mark.parametrize("moves", [FRONT_FIRST, BACK_FIRST], ids=["front first", "back first"])
def test_from_every_world_they_connect_once_that_is_over(
    reached: set[World], moves: tuple[Move, ...]
) -> None:
    for world in reached:
        assert_connected(settled(world, moves), world)


def test_they_do_not_chase_each_other_in_whatever_order_they_move(reached: set[World]) -> None:
    """Where every end has its turn again and again, each stands still in the end."""
    for circle in circles(reached, OURS):
        stand = {(each.front.phase, each.back.phase) for each in circle}
        say = {(each.front.says, each.back.says) for each in circle}
        assert (len(stand), len(say)) == (1, 1), circle


# States that a watch misses


def test_a_back_end_connects_to_a_front_end_of_which_it_misses_any_state() -> None:
    """But for one that died with it: a back end that comes back cannot tell the rings of before
    from those of now, until it has seen them once."""
    reached = worlds([*HASTY_FRONT, back_reads, back_acts, back_dies])
    assert len(reached) > 300
    for world in reached:
        if world.back.phase is Phase.RESUMED or (
            world.back.phase is Phase.STALE and world.back.took is None
        ):
            continue
        end = settled(begins_anew_unseen(world), [back_reads, back_acts])
        assert end.back.phase is Phase.CONNECTED, world
        assert end.back.rings == LIVING, world


@pytest.mark.parametrize("connects", [back_connects, back_connects_and_more])
def test_a_front_end_connects_to_a_back_end_of_which_it_misses_any_state(connects: Move) -> None:
    reached = worlds([*HASTY_BACK, front_reads, front_acts, front_dies, front_fails])
    assert len(reached) > 300
    for world in reached:
        end = settled(offers_anew_unseen(world), [front_reads, front_acts, connects])
        assert end.front.phase is Phase.CONNECTED, world
        assert end.back.rings == LIVING, world


def test_a_front_end_that_parts_is_answered_wherever_the_back_end_stands() -> None:
    """Linux's netfront says Closing, then Closed, and waits each time until the back end says so
    too, for as long as it takes."""
    for world in worlds([*HASTY_FRONT, back_reads, back_acts, back_dies]):
        parting = settled(front_says(State.CLOSING, *State)(world), [back_reads, back_acts])
        assert parting.back.says in (State.CLOSING, State.CLOSED), world
        parted = settled(front_says(State.CLOSED, *State)(parting), [back_reads, back_acts])
        assert parted.back.says is State.CLOSED, world
        assert not parted.back.rings, world


@pytest.mark.parametrize("linux", [blkback, netback])
def test_a_front_end_connects_to_linux_s_back_ends_whatever_has_happened(linux: Move) -> None:
    """Which never die, but look at the front end's state when they come to it."""
    said = State.INITIALISED if linux is blkback else State.CONNECTED

    def acts(world: World) -> World:
        world = front_acts(world)
        if world.front.phase is not Phase.PUBLISHED:
            return world
        return replace(world, front=replace(world.front, says=said, said=said))

    offers = World(back=End(says=State.INIT_WAIT))
    reached = worlds([linux, front_reads, acts, front_dies], offers)
    for world in reached:
        end = settled(world, [front_reads, acts, linux])
        assert end.front.phase is Phase.CONNECTED, world
        assert end.back.rings == LIVING, world


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


@pytest.mark.parametrize("table", [FRONT, FRONT_AGAIN, BACK, BACK_AGAIN])
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
