"""The states that the two ends of a split driver go through.

Source: xen/include/public/io/xenbus.h, enum xenbus_state.
"""

from enum import IntEnum


class XenbusState(IntEnum):
    """What an end's `state` node says, in decimal."""

    UNKNOWN = 0
    """No node, or none that can be read."""
    INITIALISING = 1
    """Made by the toolstack, or beginning anew."""
    INIT_WAIT = 2
    """The back end has said what it can do, and waits for the front end's keys."""
    INITIALISED = 3
    """This end's keys are there; it waits for the other to connect."""
    CONNECTED = 4
    CLOSING = 5
    """This end asks to part, or was asked to."""
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8
