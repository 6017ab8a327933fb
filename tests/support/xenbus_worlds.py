"""Worlds that two ends of a device may get into, and the moves between them.

A world is where each end stands, what stands in xenstore, what each has read and not acted upon
yet, and whose rings are whose. The moves of our own ends are those of `activations.xenbus`, on its
own tables, in the grain in which the other end may come in between: an end looks, and later it
acts. Peers that are not ours have moves of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

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

LIVING, DEAD = 1, 2
"""Rings of the front end's present life, and of one before; 0 are none."""


@dataclass(frozen=True)
class End:
    phase: Phase = Phase.FRESH
    says: State = State.INITIALISING
    """What stands as its state."""
    said: State = State.INITIALISING
    """What it believes to stand there."""
    read: State | None = None
    """What it last read of the other and has not acted upon."""
    rings: int = 0
    """The front end's: `LIVING`, or 0. The back end's: those it maps."""
    keys: int = 0
    """What it has written: the front end of its rings, the back end which of two offers."""
    took: int | None = None
    """The other's keys, as it took them last."""
    answers: State | None = None
    """The back end's: what the front end said whose keys it has taken, and is connecting to."""


@dataclass(frozen=True)
class World:
    front: End = End()
    back: End = End()


Move = Callable[[World], World]


def worlds(moves: Iterable[Move], first: World | None = None) -> set[World]:
    """All that these moves lead to."""
    moves = tuple(moves)
    found = {World() if first is None else first}
    todo = deque(found)
    while todo:
        world = todo.popleft()
        new = {move(world) for move in moves} - found
        found |= new
        todo.extend(new)
    return found


def settled(world: World, moves: Iterable[Move]) -> World:
    """The world once no end moves any more, if they are let do what they want."""
    moves = tuple(moves)
    for _ in range(60):
        before = world
        for move in moves:
            world = move(world)
        if world == before:
            return world
    raise AssertionError(f"never at rest: {world}")


def circles(reached: Iterable[World], moves: Iterable[Move]) -> Iterator[list[World]]:
    """Worlds that lead to each other, as many as do, in which every end has each of its moves.
    These may go on for ever though nobody is kept waiting. (Tarjan's connected components.)"""
    moves = tuple(moves)
    after = {world: [move(world) for move in moves] for world in reached}
    number: dict[World, int] = {}
    lowest: dict[World, int] = {}
    path: list[World] = []
    open_: set[World] = set()
    for first in after:
        visits = [] if first in number else [(first, iter(after[first]))]
        while visits:
            world, rest = visits[-1]
            if world not in number:
                number[world] = lowest[world] = len(number)
                path.append(world)
                open_.add(world)
            for other in rest:
                if other not in number:
                    visits.append((other, iter(after[other])))
                    break
                if other in open_:
                    lowest[world] = min(lowest[world], lowest[other])
            else:
                visits.pop()
                if visits:
                    before = visits[-1][0]
                    lowest[before] = min(lowest[before], lowest[world])
                if lowest[world] == number[world]:
                    circle = path[path.index(world) :]
                    del path[-len(circle) :]
                    open_ -= set(circle)
                    within = set(circle)
                    if all(
                        any(after[each][at] in within for each in circle)
                        for at in range(len(moves))
                    ):
                        yield circle


# Our ends


def front_reads(world: World) -> World:
    if made_anew(world.front):
        return without_rings(
            world, replace(world.front, phase=Phase.FRESH, said=State.INITIALISING)
        )
    return replace(world, front=replace(world.front, read=world.back.says))


def back_reads(world: World) -> World:
    if world.back.answers is not None:
        return world
    if made_anew(world.back):
        anew = replace(world.back, phase=Phase.FRESH, said=State.INITIALISING, rings=0, read=None)
        return replace(world, back=anew)
    return replace(world, back=replace(world.back, read=world.front.says))


def front_acts(world: World) -> World:
    """It publishes for the offer that it has seen, and only while that stands."""
    step, end = act(FRONT, FRONT_AGAIN, world.front, world.back.keys)
    if step is Step.PUBLISH and world.back.says is not world.front.read:
        return replace(world, front=replace(world.front, read=None))
    if step is Step.PUBLISH:
        end = replace(end, rings=LIVING, keys=LIVING, took=world.back.keys)
    elif step is Step.LEAVE:
        return without_rings(world, end)
    return replace(world, front=end)


def back_acts(world: World) -> World:
    back, keys = world.back, world.front.keys
    if back.answers is not None:
        return replace(world, back=connects_or_fails(world))
    step, end = act(BACK, BACK_AGAIN, back, keys)
    if step is Step.LEAVE:
        end = replace(end, rings=0)
    elif step is Step.OFFER:
        end = replace(end, took=None)
    elif step is Step.CONNECT:
        end = replace(back, read=None, answers=back.read, took=keys)
    return replace(world, back=end)


def connects_or_fails(world: World) -> End:
    """The back end, once it has tried the keys that it took. What it says of those of a dead front
    end, it says only as long as that has not gone on; else it offers again, and says no more."""
    back, front = world.back, world.front
    tried = replace(back, answers=None)
    if back.took == LIVING and front.rings:
        return say(replace(tried, rings=LIVING), Phase.CONNECTED)
    stands = front.says is back.answers and front.keys == back.took
    return say(tried, Phase.FAILED) if stands else replace(tried, phase=Phase.FRESH)


def act(table: Table, again: Table, end: End, keys: int) -> tuple[Step, End]:
    """What comes of what was read; `keys` are the other's."""
    if end.read is None:
        return Step.REST, end
    todo = next_step(table, end.phase, end.read)
    if todo is None and (anew := next_step(again, end.phase, end.read)):
        if end.took is None:
            end = replace(end, took=keys)
        todo = anew if end.took != keys else None
    end = replace(end, read=None)
    return (Step.REST, end) if todo is None else (todo[0], say(end, todo[1]))


def say(end: End, to: Phase) -> End:
    """The end at a phase, having said so unless somebody else's word stands there unseen."""
    says = to.says or end.says
    if end.says is not end.said:
        return replace(end, phase=to)
    return replace(end, phase=to, says=says, said=says)


def made_anew(end: End) -> bool:
    return end.says is State.INITIALISING and end.said is not end.says


def without_rings(world: World, front: End) -> World:
    """The front end's rings are no more; what it had said of them, and who maps them, stays."""
    front = replace(front, rings=0, read=None, keys=DEAD if front.keys else 0)
    back = world.back
    back = replace(
        back, rings=DEAD if back.rings else 0, took=DEAD if back.took == LIVING else back.took
    )
    return replace(world, front=front, back=back)


# What happens to them


def front_dies(world: World) -> World:
    return without_rings(world, reborn(world.front))


def front_fails(world: World) -> World:
    """It cannot make anything of what the back end offers, or says."""
    if world.front.phase not in (Phase.WAITING, Phase.PUBLISHED):
        return world
    failed = replace(world.front, took=world.back.keys)
    return without_rings(world, say(failed, Phase.FAILED))


def back_dies(world: World) -> World:
    return replace(world, back=reborn(world.back))


def reborn(end: End) -> End:
    fresh = end.says in (State.UNKNOWN, State.INITIALISING)
    phase = Phase.FRESH if fresh else Phase.RESUMED
    return End(phase, end.says, end.says, keys=end.keys)


def made_anew_in_place(world: World) -> World:
    """The toolstack removes the device, and makes it anew, in one step that nobody sees."""
    return World(
        replace(world.front, says=State.INITIALISING, keys=0),
        replace(world.back, says=State.INITIALISING, keys=0),
    )


OURS: tuple[Move, ...] = (front_reads, front_acts, back_reads, back_acts)


# A front end that waits for nobody


def front_says(state: State, *after: State) -> Move:
    """It goes on to a state, from one of these."""

    def move(world: World) -> World:
        front = world.front
        if front.says not in after:
            return world
        if state in (State.INITIALISED, State.CONNECTED) and not front.rings:
            world = without_rings(world, front)
            published = replace(world.front, rings=LIVING, keys=LIVING, says=state)
            return replace(world, front=published)
        if state in (State.INITIALISING, State.CLOSED):
            world = without_rings(world, front)
        return replace(world, front=replace(world.front, says=state))

    return move


def front_crashes(world: World) -> World:
    """What it said stays."""
    return without_rings(world, world.front)


_IN_USE = (State.INITIALISED, State.CONNECTED)
HASTY_FRONT: tuple[Move, ...] = (
    front_crashes,
    front_says(State.INITIALISED, State.INITIALISING),
    front_says(State.CONNECTED, State.INITIALISING, State.INITIALISED),
    front_says(State.CLOSING, *_IN_USE),
    front_says(State.CLOSED, *_IN_USE, State.CLOSING),
    front_says(State.INITIALISING, *_IN_USE, State.CLOSING, State.CLOSED),
)


def begins_anew_unseen(world: World) -> World:
    """The front end is over with all before, and connected as far as it is concerned."""
    for state, *after in (
        (State.CLOSED, *State),
        (State.INITIALISING, State.CLOSED),
        (State.CONNECTED, State.INITIALISING),
    ):
        world = front_says(state, *after)(world)
    return world


# A back end that waits for nobody


def back_says(state: State, *after: State, offer: int = 0) -> Move:
    def move(world: World) -> World:
        back = world.back
        if back.says not in after:
            return world
        rings = back.rings if state is State.RECONFIGURED else 0
        return replace(world, back=replace(back, says=state, rings=rings, keys=offer or back.keys))

    return move


def back_connects(world: World) -> World:
    """As soon as there is something to connect to, that goes with its offer."""
    front, back = world.front, world.back
    if back.says is not State.INIT_WAIT or front.says is not State.INITIALISED:
        return world
    if not front.rings or front.took != back.keys:
        return world
    return replace(world, back=replace(back, says=State.CONNECTED, rings=LIVING))


HASTY_BACK: tuple[Move, ...] = (
    back_says(State.INIT_WAIT, State.INITIALISING, offer=1),
    back_says(State.INIT_WAIT, State.INITIALISING, offer=2),
    back_connects,
    back_says(State.RECONFIGURED, State.CONNECTED),
    back_says(State.CLOSING, State.INIT_WAIT, State.CONNECTED, State.RECONFIGURED),
    back_says(State.CLOSED, State.CLOSING, State.INIT_WAIT),
    back_says(State.INITIALISING, *State),
)


def back_connects_and_more(world: World) -> World:
    """And has changed the device before anybody looks."""
    return back_says(State.RECONFIGURED, State.CONNECTED)(back_connects(world))


def offers_anew_unseen(world: World) -> World:
    """The back end is over with all before, and has another offer than the one that was taken."""
    world = back_says(State.INITIALISING, *State)(world)
    offer = 1 if world.front.took == 2 else 2
    return back_says(State.INIT_WAIT, State.INITIALISING, offer=offer)(world)


# Linux's back ends: by the state that they say, what they make of the front end's


def blkback(world: World) -> World:
    """xen-blkback's `frontend_changed`."""
    front, back = world.front, world.back
    match front.says:
        case State.INITIALISING if back.says is State.CLOSED:
            back = replace(back, says=State.INIT_WAIT)
        case State.INITIALISED | State.CONNECTED if back.says is not State.CONNECTED:
            rings = LIVING if front.rings else 0
            back = replace(back, says=State.CONNECTED if rings else State.CLOSING, rings=rings)
        case State.CLOSING:
            back = replace(back, says=State.CLOSING)
        case State.CLOSED:
            back = replace(back, says=State.CLOSED, rings=0)
    return replace(world, back=back)


def netback(world: World) -> World:
    """xen-netback's, which goes by way of all states in between, and does not stop there."""
    front, back = world.front, world.back
    match front.says:
        case State.INITIALISING:
            back = replace(back, says=State.INIT_WAIT, rings=0)
        case State.CONNECTED if back.says is not State.CONNECTED:
            rings = LIVING if front.rings else 0
            back = replace(back, says=State.CONNECTED if rings else State.CLOSING, rings=rings)
        case State.CLOSING | State.CLOSED:
            back = replace(back, says=front.says, rings=0)
    return replace(world, back=back)
