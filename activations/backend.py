"""What a backend is: an object that an installed package offers under the entry-point group
`activations.backends`. It makes lower halves, and runs scenarios of several domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from activations import registry
from activations.accelerator import accelerator, missing
from activations.errors import BackendError
from activations.loop import EventLoop
from activations.lower import Clock
from activations.outcome import Observer, Outcome, RunOptions
from activations.registry import PROTOCOL_VERSION
from activations.scenario import Scenario

__all__ = [
    "PROTOCOL_VERSION",
    "Backend",
    "Check",
    "Kept",
    "Observer",
    "Outcome",
    "RunOptions",
    "load",
    "new_generation",
    "refuse",
]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `activations doctor`: a need, whether it is met, and how to meet it."""

    what: str
    ok: bool
    found: str = ""
    mend: str = ""
    """The command that mends it, where `ok` is false."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One line of `activations lab cache`: something that a backend keeps on disk between runs."""

    what: str
    path: Path
    size: int
    """Bytes of disk."""
    detail: str = ""
    needed: bool = True
    """Whether the next run would use it."""


class Backend(Protocol):
    """What an entry point of the group `activations.backends` names."""

    name: str
    protocol_version: int

    def new_event_loop(self, *, clock: Clock | None = None, seed: int | None = None) -> EventLoop:
        """A loop for one domain; `BackendError` where this backend has none to give, or none with
        this clock or a seed."""

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """Run a scenario's halves to their end. Halves that raise are in `Outcome.failures`;
        what keeps the scenario from running at all is raised as `BackendError`."""

    def doctor(self) -> Sequence[Check]:
        """What this backend needs of this machine. Quick; changes nothing."""


def load(name: str) -> Backend:
    """The backend of this name. Raises `BackendError` if there is none that fits."""
    backend: Backend = registry.find(name)
    return backend


def accelerated() -> Check:
    """The line of `activations doctor` that says whether the accelerator is in use."""
    how = f"without it: {missing}" if accelerator is None else "in use"
    return Check("accelerator (optional)", True, how)


def new_generation(loop: EventLoop) -> None:
    """For a backend to say: the loop's domain was suspended and resumed. Xen has closed its ports
    and its way to xenstored; who waits on them is told `GenerationEnded`. Its domid may be another
    one."""
    loop.domain._new_generation()


def refuse(backend: str, options: Mapping[str, Any], why: str) -> None:
    """Raise `BackendError` for the first of these options that was given."""
    for option, value in options.items():
        if value is not None:
            raise BackendError(f"backend {backend!r} has no use for {option}: {why}")
