"""What a backend may offer beyond `activations.backend.Backend`.

Each is a protocol by itself: a backend offers it by having its methods, there is nothing to inherit
from or to declare. A command that needs one asks the backend for it
(`isinstance(backend, HasShell)`), and says so where it is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from activations.backend import Kept, Observer, RunOptions
from activations.evtchn.listing import PortState
from activations.lower import StoreConnection
from activations.scenario import Scenario

__all__ = [
    "HasCache",
    "HasShell",
    "HasStore",
    "HasStoreServer",
    "LendsDisks",
    "ListsPorts",
    "PortState",
    "ShowsPorts",
]


def __dir__() -> list[str]:
    return __all__


@runtime_checkable
class HasStore(Protocol):
    """Where this process has a xenstore of its own: `activations store`."""

    def open_store(self) -> StoreConnection:
        """A new connection to it, for any asyncio loop. Raises `BackendError` if there is none."""


@runtime_checkable
class HasStoreServer(Protocol):
    """Where there is a xenstored to give to others: `activations store serve`."""

    def store_server(self, socket: Path) -> AbstractAsyncContextManager[object]:
        """A fresh xenstored on this Unix socket while the block runs.

        Entering raises `OSError` if it cannot listen there. Leaving removes the socket.
        """


@runtime_checkable
class ListsPorts(Protocol):
    """Where Xen can be asked for a domain's ports: `activations evtchn ls`."""

    def event_channels(self, domid: int | None, *, bits: bool = False) -> Sequence[PortState]:
        """The ports of this domain, or of the one this process runs in, that are not free.

        With `bits` also which are pending and masked. Raises `BackendError` where Xen cannot be
        asked, `XenError` (ESRCH) where there is no such domain.
        """

    def port_holders(self) -> Mapping[str, int]:
        """Who has event channels here, and how many each: `xenstored` 3."""


@runtime_checkable
class ShowsPorts(Protocol):
    """Where the ports of all of a scenario's domains can be seen: `activations evtchn ls --run`."""

    def ports(
        self, scenario: Scenario, options: RunOptions, observer: Observer, *, at: int | None = None
    ) -> tuple[int, list[PortState]]:
        """Run it; every port at one moment, and when that was, in nanoseconds: `at`, or else when
        most were open. Raises `BackendError` if the run is over before."""


@runtime_checkable
class LendsDisks(Protocol):
    """Where dom0 does not see this machine's files: `activations demo --disk`."""

    def lending(self, file: Path) -> AbstractContextManager[Path]:
        """Inside the block, what runs has the file as a block device in dom0, to be read only.

        Gives the device's path there. Raises `BackendError` where it cannot be lent.
        """


@runtime_checkable
class HasShell(Protocol):
    """Where a person can look around in a domain: `activations lab shell`."""

    def shell(self, domain: str, observer: Observer) -> int:
        """An interactive shell in this domain, on this terminal; give its exit status.

        Raises `BackendError` if there is no such domain, or no way to have one.
        """


@runtime_checkable
class HasCache(Protocol):
    """Where things are kept on disk between runs: `activations lab cache`, `refresh`, `clean`.

    `refresh` and `clean` raise `BackendError` while something runs from there.
    """

    def kept(self) -> Sequence[Kept]:
        """What is kept, what is needed first."""

    def refresh(self, observer: Observer) -> Sequence[str]:
        """Bring it up to date; a line for each change, none where it was."""

    def clean(self, *, old: bool) -> Sequence[Kept]:
        """Remove it, or only what is not needed any more; give what was removed."""
