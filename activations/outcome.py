"""How a scenario is run, who watches, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict

from activations.lower import Clock


class RunKeywords(TypedDict, total=False):
    """`RunOptions` as keywords, all of which may be left out."""

    only: str | None
    seed: int | None
    clock: Clock | None
    trace: Path | None
    guest: str | None
    delivery: str | None
    vcpus: int | None
    record: Path | None
    top: bool


class RunOptions(NamedTuple):
    """How to run a scenario; a backend that has no use for an option set to other than its
    default raises `BackendError` naming it."""

    only: str | None = None
    """Run this domain's half alone (`--as`); the others run elsewhere on the same Xen."""
    seed: int | None = None
    clock: Clock | None = None
    trace: Path | None = None
    guest: str | None = None
    """The kernel whose event code simulated guests run: `solo5`, `linux-fifo`..."""
    delivery: str | None = None
    """How the simulated Xen interrupts them: `vector`, `callback` or `pv`."""
    vcpus: int | None = None
    """How many vCPUs each simulated domain has."""

    record: Path | None = None
    """Where to note what the domain takes in."""
    top: bool = False
    """Have `activations top` see it."""

    @property
    def simulated(self) -> dict[str, object]:
        """The options that a real Xen has no use for, by name."""
        return {
            "seed": self.seed,
            "guest": self.guest,
            "delivery": self.delivery,
            "vcpus": self.vcpus,
        }


class Observer(Protocol):
    """Who watches a run. Calls come in the order things happened."""

    def progress(self, text: str) -> None:
        """Something that takes long has got this far: `booting Xen`, `creating guest`."""

    def line(self, domain: str, text: str) -> None:
        """One line that this domain's half printed, without its newline."""


@dataclass(slots=True)
class Outcome:
    """How a scenario ended: what each half returned, or the traceback of what it raised."""

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the backend knows besides: virtual time, versions, counts. For `--json` and `demo`."""
