"""A finding: a promise that a run broke, and how it is told.

Some promises hold without being asked for: they are the kinds below. What a program asks for itself
(`activations.promises`) is broken under the same names as it was asked by.
"""

from __future__ import annotations

from typing import NamedTuple

LOST_WAKEUP = "lost wake-up"
"""A port is pending, its vCPU sleeps, and nothing will ever wake it."""
DEADLOCK = "deadlock"
"""Nothing can ever happen again, and no event was lost: each waits for what another one owes."""
LIVELOCK = "livelock"
"""The run took more steps than its budget, and no domain had ended."""
OVER_AND_OVER = "one port over and over"
"""One pass of a demux delivered the same port more than once."""
REENTERED = "handler entered again"
"""The event handler was entered while it ran."""
ASLEEP_DEAF = "asleep with interrupts off"
"""A processor halted with interrupts disabled."""
LEAK = "leak"
"""A domain ended with ports, grants or watches that were not closed."""
EXCEPTION = "exception"
"""A domain's program raised."""
UNSEEN = "unseen exception"
"""A task raised, and its result was never looked at."""
ESCAPE = "not deterministic"
"""The same answers to the same questions gave another run."""
ALWAYS, SOMETIMES, EVENTUALLY, UNREACHABLE = "always", "sometimes", "eventually", "unreachable"
"""What a program asked for."""


class Finding(NamedTuple):
    """What a run did wrong."""

    kind: str
    said: str
    """What happened, in a sentence or a few lines: who, which port."""
    actor: str = ""
    """The vCPU whose last step is where it went wrong, where there is one."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.said}"

    @property
    def signature(self) -> str:
        """What two runs have in common that found the same thing: the kind, and the first line."""
        return f"{self.kind}: {self.said.partition(chr(10))[0]}"
