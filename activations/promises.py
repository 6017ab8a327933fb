"""What a program promises of itself, for the explorer to hold it to.

    always(count >= 0, "the count is never negative")
    sometimes(queue.full(), "the queue is full at some time")
    eventually(lambda: served == asked, "every request is served")
    unreachable("a request without a ring")

Where it is not explored, `always` and `unreachable` raise `PromiseBroken`, and the other two cost
nothing: one run cannot break them. The explorer (docs/explorer.md) holds a program to all four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from activations.errors import ActivationsError

__all__ = [
    "PromiseBroken",
    "always",
    "eventually",
    "fault",
    "faulty",
    "sometimes",
    "unreachable",
]


def __dir__() -> list[str]:
    return __all__


class PromiseBroken(ActivationsError, AssertionError):
    """A program did what it had promised not to do."""


class Watcher(Protocol):
    """What explores the program that runs."""

    def broken(self, kind: str, said: str) -> None:
        """A promise was broken; need not return."""

    def promised(self, said: str, kept: bool) -> None:
        """What has to be so in some run, and whether it is so in this one."""

    def owed(self, condition: Callable[[], object], said: str) -> None:
        """What has to be so when the run ends."""

    def faulty(self, kind: str) -> bool:
        """Whether anything of this kind may go wrong."""

    def fault(self, kind: str, what: str, *names: str) -> str:
        """Which of these faults strikes the running vCPU in what it is about to do; empty for
        none."""


_watchers: list[Watcher] = []


def watch(watcher: Watcher) -> None:
    """Have this one told, until `unwatch`."""
    _watchers.append(watcher)


def unwatch() -> None:
    _watchers.pop()


def watching() -> list[Watcher]:
    """Who is told: none, or one."""
    return _watchers[-1:]


def always(condition: object, said: str) -> None:
    """This is so whenever a run comes by here."""
    if not condition:
        _broken("always", said)


def unreachable(said: str) -> None:
    """No run comes by here."""
    _broken("unreachable", said)


def sometimes(condition: object, said: str) -> None:
    """In some run this is so."""
    if _watchers:
        _watchers[-1].promised(said, bool(condition))


def eventually(condition: Callable[[], object], said: str) -> None:
    """When the run ends, this is so."""
    if _watchers:
        _watchers[-1].owed(condition, said)


def faulty(kind: str) -> bool:
    """Whether anything of this kind of faults (`explore --faults`) may go wrong in this run. For a
    driver that wraps what it serves."""
    return bool(_watchers) and _watchers[-1].faulty(kind)


def fault(kind: str, what: str, *names: str) -> str:
    """Which of these faults happens to what is about to be done; empty for none."""
    return _watchers[-1].fault(kind, what, *names) if _watchers else ""


def _broken(kind: str, said: str) -> None:
    if _watchers:
        _watchers[-1].broken(kind, said)
    raise PromiseBroken(f"{kind}: {said}")
