"""How much is done in the machine room."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What every domain of the room knows before it begins. Sizes are in bytes."""

    image: str = ""
    """The file or block device, in dom0, that is served as a disk; empty: dom0 makes one."""
    name: str = "machine-room.img"
    """What it is called when it is spoken of."""
    size: int = 64 * MIB
    """Of the image. A disk has whole sectors: what the last one has beyond this is zeroes."""
    pings: int = 2500
    talk: int = 48 * MIB
    """What goes through the vchan each way, after the conversation."""
    every: float = 0.1
    """Seconds of real time between two reports of a domain's figures, at least."""

    def as_file(self) -> str:
        """A scenario file of a room with this plan: that is what other machines can be sent."""
        return (
            "from activations.demo.plan import Plan\n"
            "from activations.demo.room import machine_room\n"
            f"room = machine_room({self!r})\n"
        )
