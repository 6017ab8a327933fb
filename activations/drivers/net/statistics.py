"""What an end of a network device has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Frames, counted since the end was made, over all its connections."""

    sent: int = 0
    """Frames that were given to the other end."""
    received: int = 0
    """Frames that were taken from the other end."""
    bad: int = 0
    """Packets of the other end's that could not be taken: see `BadPacket`."""
    lost: int = 0
    """Frames that were dropped here, or that the other end did not take."""
