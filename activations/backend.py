"""What the upper half asks of a lower half, and how backends are found.

Two protocols, both small. A `LowerHalf` serves one domain: it keeps time, blocks, demuxes the
event channels and makes the hypercalls; the event loop is written against it and nothing else.
A `Backend` is what an installed package offers under the entry-point group
`activations.backends`: it makes lower halves, and runs scenarios of several domains.

    application   await port.wait()                     activations
    upper half    loop, ports, grants, store            activations
    ------------------------------------------------- this protocol
    lower half    block, demux, unmask, hypercalls      xen_sim | xen_linux
    below         simulated Xen | /dev/xen | QEMU       backends
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from activations.errors import BackendError

if TYPE_CHECKING:
    from activations.domain import Domain
    from activations.loop import EventLoop
    from activations.scenario import Scenario

PROTOCOL_VERSION = 1
ENTRY_POINT_GROUP = "activations.backends"

Clock = Literal["virtual", "wall"]
Ready = list[tuple[selectors.SelectorKey, int]]
"""Descriptors that are ready, as `selectors.BaseSelector.select` gives them."""


class LowerHalf(Protocol):
    """One domain's lower half. Times are integer nanoseconds of a monotonic clock.

    The idle step of the loop is written with the first four: when nothing is ready it calls
    `block(deadline)`, else `poll()`; then `demux()`, then wakes, then `unmask()`. Every operation
    that Xen can refuse raises `XenError`.
    """

    domid: int
    name: str
    clock: Clock
    descriptors: selectors.BaseSelector
    """Where asyncio registers its descriptors (the virtual clock refuses all but the loop's own)."""
    grant_table: GrantTable

    def time_ns(self) -> int: ...

    def block(self, deadline: int | None) -> Ready | None:
        """Set the one-shot timer to an absolute time (None stops it), then give up the processor
        until an event, the timer or a descriptor; say which descriptors are ready."""

    def poll(self) -> Ready | None:
        """As `block`, without waiting."""

    def demux(self) -> Sequence[int]:
        """The ports that fired, each left masked with its pending bit cleared."""

    def unmask(self, ports: Sequence[int]) -> None:
        """Let these ports fire again; one that became pending meanwhile fires at once."""

    def mask(self, port: int) -> None: ...

    def notify(self, port: int) -> None: ...

    def alloc_unbound(self, remote_domid: int) -> int: ...

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int: ...

    def bind_virq(self, virq: int) -> int: ...

    def close_port(self, port: int) -> None: ...

    def open_store(self, domain: Domain) -> StoreConnection:
        """A new connection to xenstored; `domain` is the upper half that will use it."""

    def close(self) -> None:
        """Give back what is left: ports, grants, mappings, descriptors."""


class GrantTable(Protocol):
    """Memory shared between domains, in whole pages of 4096 bytes."""

    def share(self, domid: int, pages: int, writable: bool) -> GrantedPages:
        """Fresh zeroed pages of this domain, granted to `domid`."""

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> GrantedPages:
        """Pages that `domid` granted to this domain, one after another."""


class GrantedPages(Protocol):
    """Pages shared or mapped, as one stretch of memory, until `close`."""

    @property
    def domid(self) -> int:
        """The other domain."""

    @property
    def refs(self) -> tuple[int, ...]: ...

    @property
    def memory(self) -> memoryview:
        """`len(refs) * 4096` bytes, read-only where the grant is."""

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        """When these pages go (closed, or the domain dies): clear the byte at this offset,
        send an event through this port (IOCTL_GNTDEV_SET_UNMAP_NOTIFY's two actions)."""

    def close(self) -> None: ...


class StoreConnection(Protocol):
    """A byte stream to xenstored that carries xs_wire messages."""

    async def send(self, message: bytes) -> None:
        """Send one whole message (header and payload)."""

    async def receive(self) -> bytes:
        """The next bytes, at least one; empty when xenstored went away."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a scenario; a backend that has no use for an option set to other than its
    default raises `BackendError` naming it."""

    only: str | None = None
    """Run this domain's half alone (`--as`); the others run elsewhere on the same Xen."""
    seed: int | None = None
    clock: Clock | None = None
    trace: Path | None = None


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


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `activations doctor`: a need, whether it is met, and how to meet it."""

    what: str
    ok: bool
    found: str = ""
    mend: str = ""
    """The command that mends it, where `ok` is false."""


class Backend(Protocol):
    """What an entry point of the group `activations.backends` names."""

    name: str
    protocol_version: int

    def new_event_loop(self, **options: Any) -> EventLoop:
        """A loop for one domain; `BackendError` where this backend has none to give."""

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """Run a scenario's halves to their end. Halves that raise are in `Outcome.failures`;
        what keeps the scenario from running at all is raised as `BackendError`."""

    def doctor(self) -> Sequence[Check]:
        """What this backend needs of this machine. Quick; changes nothing."""


def names() -> list[str]:
    """The names of the installed backends, in alphabetical order."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def load(name: str) -> Backend:
    """The backend of this name. Raises `BackendError` if there is none that fits."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        backend: Backend = point.load()
        if backend.protocol_version != PROTOCOL_VERSION:
            raise BackendError(
                f"backend {name!r} ({point.value}) speaks protocol {backend.protocol_version}, "
                f"this is activations with protocol {PROTOCOL_VERSION}: upgrade the older one"
            )
        return backend
    raise BackendError(f"unknown backend {name!r}; installed: {', '.join(names()) or 'none'}")


def refuse(backend: str, options: Mapping[str, Any], why: str) -> None:
    """Raise `BackendError` for the first of these options that was given."""
    for option, value in options.items():
        if value is not None:
            raise BackendError(f"backend {backend!r} has no use for {option}: {why}")
