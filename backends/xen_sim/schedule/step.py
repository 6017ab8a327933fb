"""What a vCPU is about to do, and what could go either way there."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One use of the processor, of memory, or of Xen; before it, others may run.

    `kind` is what is done: an instruction (`cli`, `hlt`, `bts`), an access (`read`, `write`), or
    `hypercall`. `what` names the memory or the hypercall; `offset` and `size` are bytes of it, and
    `frame` is the number of its frame; 0 for pages that several domains have under names of theirs.
    """

    kind: str
    what: str = ""
    offset: int = 0
    size: int = 0
    frame: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.what}" if self.what else self.kind


RUN_NEXT = "run next"
"""The point of a choice among those who can run, where none was about to go on."""


class Choice(NamedTuple):
    """Something that could go either way. Option 0 is always the ordinary course: go on; first
    come, first served; in the order in which it was set."""

    point: str
    """Who is about to take which step (`guest: hlt`), or `RUN_NEXT`, or `first at 500 ns`."""
    options: tuple[str, ...]
    """At least two: the names of who could run, or of what could happen."""
    step: Step | None = None
    """The step that is about to be taken, where it is one."""
    fault: str = ""
    """Of which kind it is, where every other option than 0 is something that goes wrong."""

    @property
    def asked(self) -> tuple[str, tuple[str, ...]]:
        """What a recording keeps, and a replay compares."""
        return self.point, self.options
