"""The handshake as tables: where an end stands, what the other says, what is to be done.

Each end has a `state` node that it alone writes and the other watches. In the good case:

    front end                            back end
    Initialising                         Initialising     as the toolstack made them
                                         InitWait         OFFER: what it can do is written
    Initialised, or Connected at once                     PUBLISH: rings made, their keys written
                                         Connected        CONNECT: rings mapped
    Connected                                             CONNECT

What makes it a state machine is all the rest. An end dies and comes back, and finds the other
where its former life had left it. The toolstack unplugs the device. A peer skips states, or says
Connected and means the time before. So an end knows more than it says: a `Phase` is where it
stands, and `says` what it writes for that. A state of the other's that a row does not name changes
nothing.

A watch tells that a state was written, not which: an end sees where the other stands when it
looks, and has missed what came before. A peer that parts and begins anew without waiting for
anybody may be seen as Connected and Connected again. Then its keys tell: a ring that is still
mapped keeps its references, so a new ring has others. `FRONT_AGAIN` and `BACK_AGAIN` have what is
to be done about a state that stands as it did, with other keys.

The tables know no I/O: `activations.xenbus.handshake` reads and writes for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import TypeAlias

from activations.abi.xenbus import XenbusState as State


class Phase(Enum):
    """Where an end stands; the value is the state that it writes there, None for one it leaves."""

    FRESH = (State.INITIALISING, "as the toolstack made it")
    RESUMED = (None, "an earlier life of this end had got further")
    STALE = (State.INITIALISING, "waits until the other end has forgotten the earlier life")
    PARTING = (State.CLOSED, "asks the other end to forget the earlier life")
    WAITING = (State.INITIALISING, "a front end that waits for an offer")
    OFFERED = (State.INIT_WAIT, "a back end that waits for the front end's keys")
    PUBLISHED = (State.INITIALISED, "a front end whose keys are there")
    CONNECTED = (State.CONNECTED, "in use")
    RECONFIGURING = (State.RECONFIGURING, "the back end is changing the device")
    CLOSING = (State.CLOSING, "parting, as the front end asked")
    UNPLUGGING = (State.CLOSING, "asked for by the toolstack; in use until the front end agrees")
    UNPLUGGED = (State.CLOSED, "over for good")
    FAILED = (State.CLOSING, "the other end broke the rules, or cannot be served")
    CLOSED = (State.CLOSED, "parted; begins again when the other end does")

    def __init__(self, says: State | None, meaning: str) -> None:
        self.says = says
        self.meaning = meaning


class Step(Enum):
    """What an end does on its way to the next phase."""

    REST = auto()
    """Nothing but to say so."""
    OFFER = auto()
    """Write what this back end can do."""
    PUBLISH = auto()
    """Make rings, and write their keys."""
    CONNECT = auto()
    """Take the other end's keys, and begin to work."""
    RECONFIGURE = auto()
    """Take the other end's keys again, at work."""
    LEAVE = auto()
    """Stop, and give everything back. A front end says so first: only then does the other unmap."""


Row: TypeAlias = Mapping[State, tuple[Step, Phase]]
Table: TypeAlias = Mapping[Phase, Row]


def _on(*states: State, step: Step = Step.REST, to: Phase) -> dict[State, tuple[Step, Phase]]:
    return dict.fromkeys(states, (step, to))


def _but(*states: State) -> Iterable[State]:
    return [state for state in State if state not in states]


_BEGINNING = (State.UNKNOWN, State.INITIALISING, State.INIT_WAIT, State.CLOSED)
_PUBLISHED = (State.INITIALISED, State.CONNECTED)

FRONT: Table = {
    # Rings of an earlier life: the back end has to let go of them before it can offer again.
    Phase.FRESH: _on(*_BEGINNING, to=Phase.WAITING) | _on(*_but(*_BEGINNING), to=Phase.PARTING),
    Phase.RESUMED: _on(*_BEGINNING, to=Phase.WAITING) | _on(*_but(*_BEGINNING), to=Phase.PARTING),
    Phase.PARTING: _on(*_BEGINNING, to=Phase.WAITING),
    # The same, where the back end took those rings after this end had seen it offer.
    Phase.WAITING: _on(State.INIT_WAIT, step=Step.PUBLISH, to=Phase.PUBLISHED)
    | _on(*_but(*_BEGINNING), to=Phase.PARTING),
    Phase.PUBLISHED: _on(
        State.CONNECTED,
        State.RECONFIGURING,
        State.RECONFIGURED,
        step=Step.CONNECT,
        to=Phase.CONNECTED,
    )
    | _on(State.UNKNOWN, State.INITIALISING, step=Step.LEAVE, to=Phase.WAITING)
    | _on(State.CLOSING, State.CLOSED, step=Step.LEAVE, to=Phase.CLOSED),
    Phase.CONNECTED: _on(State.RECONFIGURING, to=Phase.RECONFIGURING)
    | _on(State.UNKNOWN, State.INITIALISING, State.INIT_WAIT, step=Step.LEAVE, to=Phase.WAITING)
    | _on(State.CLOSING, State.CLOSED, step=Step.LEAVE, to=Phase.CLOSED),
    Phase.RECONFIGURING: _on(
        State.RECONFIGURED, State.CONNECTED, step=Step.RECONFIGURE, to=Phase.CONNECTED
    )
    | _on(State.UNKNOWN, State.INITIALISING, State.INIT_WAIT, step=Step.LEAVE, to=Phase.WAITING)
    | _on(State.CLOSING, State.CLOSED, step=Step.LEAVE, to=Phase.CLOSED),
    # An offer that stands is the one that failed: wait for another.
    Phase.FAILED: _on(State.CLOSING, State.CLOSED, State.UNKNOWN, to=Phase.CLOSED)
    | _on(State.INITIALISING, to=Phase.WAITING),
    Phase.CLOSED: _on(State.INITIALISING, State.INIT_WAIT, to=Phase.WAITING),
}
"""The front end's: what the back end says."""

FRONT_AGAIN: Table = {
    Phase.PUBLISHED: _on(State.INIT_WAIT, step=Step.LEAVE, to=Phase.WAITING),
    Phase.FAILED: _on(State.INIT_WAIT, to=Phase.WAITING),
}
"""The front end's: what the back end says still, or again, with other keys."""

BACK: Table = {
    # A front end may be ahead of an end that is untouched: some wait for no offer.
    Phase.FRESH: _on(*State, step=Step.OFFER, to=Phase.OFFERED),
    Phase.RESUMED: _on(*_BEGINNING, step=Step.OFFER, to=Phase.OFFERED)
    | _on(*_but(*_BEGINNING), to=Phase.STALE),
    Phase.STALE: _on(*_BEGINNING, step=Step.OFFER, to=Phase.OFFERED)
    | _on(State.CLOSING, to=Phase.CLOSING),
    # Closed is from an earlier life, and not said to this end, until the offer is seen.
    Phase.OFFERED: _on(*_PUBLISHED, step=Step.CONNECT, to=Phase.CONNECTED)
    | _on(State.CLOSING, to=Phase.CLOSING),
    Phase.CONNECTED: _on(State.INITIALISING, step=Step.LEAVE, to=Phase.STALE)
    | _on(State.CLOSING, step=Step.LEAVE, to=Phase.CLOSING)
    | _on(State.CLOSED, State.UNKNOWN, step=Step.LEAVE, to=Phase.CLOSED),
    # A front end that has published since it parted began anew in between.
    Phase.CLOSING: _on(State.CLOSED, State.UNKNOWN, to=Phase.CLOSED)
    | _on(State.INITIALISING, *_PUBLISHED, step=Step.OFFER, to=Phase.OFFERED),
    Phase.UNPLUGGING: _on(*_BEGINNING, step=Step.LEAVE, to=Phase.UNPLUGGED),
    Phase.FAILED: _on(State.CLOSED, State.UNKNOWN, to=Phase.CLOSED)
    | _on(State.INITIALISING, step=Step.OFFER, to=Phase.OFFERED),
    Phase.CLOSED: _on(State.INITIALISING, *_PUBLISHED, step=Step.OFFER, to=Phase.OFFERED),
}
"""The back end's: what the front end says."""

BACK_AGAIN: Table = {
    Phase.STALE: _on(*_PUBLISHED, step=Step.OFFER, to=Phase.OFFERED),
    Phase.CONNECTED: _on(*_PUBLISHED, step=Step.LEAVE, to=Phase.FRESH),
    Phase.FAILED: _on(*_PUBLISHED, step=Step.OFFER, to=Phase.OFFERED),
}
"""The back end's: what the front end says still, or again, with other keys."""


def next_step(table: Table, phase: Phase, other: State) -> tuple[Step, Phase] | None:
    """What to do at this phase when the other end says this; None to wait."""
    return table.get(phase, {}).get(other)
