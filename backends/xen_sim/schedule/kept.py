"""What the thread keeps for a fiber, and is to find again when that runs again."""

from __future__ import annotations

from typing import Protocol


class Kept(Protocol):
    """What the thread kept for a fiber when it gave up the processor."""

    def restore(self) -> None:
        """It runs again: put it back."""

    def stale(self) -> bool:
        """Whether the thread keeps something else for it by now."""


class Nothing:
    """A fiber that leaves nothing with the thread."""

    def restore(self) -> None:
        """There is nothing to put back."""

    def stale(self) -> bool:
        return False


_NOTHING = Nothing()


def nothing() -> Kept:
    """The `keep` of a fiber that leaves nothing with the thread."""
    return _NOTHING
