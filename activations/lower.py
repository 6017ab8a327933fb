"""What the upper half asks of a lower half. One protocol, small; the loop knows nothing else.

    application   await port.wait()                     activations
    upper half    loop, ports, grants, store            activations
    ------------------------------------------------- this protocol
    lower half    block, demux, unmask, hypercalls      xen_sim | xen_linux
    below         simulated Xen | /dev/xen              backends

A `LowerHalf` serves one domain: it keeps time, blocks, demuxes the event channels and makes the
hypercalls. Its version is that of the whole protocol between `activations` and its backends,
`registry.PROTOCOL_VERSION`.
"""

from __future__ import annotations

import selectors
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "Adopt",
    "Clock",
    "Foreign",
    "GrantTable",
    "GrantedPages",
    "LowerHalf",
    "Ready",
    "Segment",
    "StoreConnection",
    "StoreUser",
    "VirtualLowerHalf",
    "Waitable",
    "monotonic_ns",
]


def __dir__() -> list[str]:
    return __all__


Clock = Literal["virtual", "wall"]

monotonic_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
"""The wall clock, as `time.monotonic_ns`; but a test that freezes time, by putting another function
in the place of that one, does not reach it. (A lower half may be imported while time is frozen.)"""

Ready = list[tuple[selectors.SelectorKey, int]]
"""Descriptors that are ready, as `selectors.BaseSelector.select` gives them."""


class Waitable(Protocol):
    """As much of a port as a connection to xenstored needs."""

    def next_event(self) -> Future[None]:
        """Done at the next event."""

    def notify(self) -> None:
        """Send an event through the port. Raises `XenError`."""

    def close(self) -> None:
        """Close the port."""


Adopt = Callable[[int, str], Waitable]
"""Makes the upper half's port of a number that is bound already, given what its other end is."""


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
    """Where asyncio registers its descriptors. The virtual clock refuses them."""
    grant_table: GrantTable

    def time_ns(self) -> int:
        """Now, in nanoseconds: the clock that deadlines are of."""

    def block(self, deadline: int | None) -> Ready | None:
        """Set the one-shot timer to an absolute time (None stops it), then give up the processor
        until an event, the timer or a descriptor; say which descriptors are ready."""

    def poll(self) -> Ready | None:
        """As `block`, without waiting."""

    def demux(self) -> Sequence[int]:
        """The ports that fired, each left masked with its pending bit cleared.

        They are the lower half's to remember until `unmask` is given this very sequence: an
        exception out of a signal handler may strike in between, and then the next demux has them
        again, with what has fired since."""

    def unmask(self, ports: Sequence[int]) -> None:
        """Let these ports fire again; one that became pending meanwhile fires at once."""

    def mask(self, port: int) -> None:
        """Have the port not fire until it is unmasked."""

    def notify(self, port: int) -> None:
        """Send an event through the port. Raises `XenError`."""

    def alloc_unbound(self, remote_domid: int) -> int:
        """A port that `remote_domid` may bind. Raises `XenError`."""

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """A port bound to another domain's. Raises `XenError`."""

    def bind_virq(self, virq: int) -> int:
        """A port bound to a virtual interrupt. Raises `XenError`."""

    def close_port(self, port: int) -> None:
        """Close the port. Raises `XenError`."""

    def open_store(self, adopt: Adopt) -> StoreConnection:
        """A new connection to xenstored; one that goes by a port has it adopted."""

    def close(self) -> None:
        """Give back what is left: ports, grants, mappings, descriptors."""


class VirtualLowerHalf(LowerHalf, Protocol):
    """A lower half on a clock that jumps over idle time."""

    def wake(self) -> None:
        """End the block of this domain, or its next one: another domain of the same thread has
        something for it. (On the wall clock a descriptor does that, asyncio's own.)"""


class GrantTable(Protocol):
    """Memory shared between domains, in whole pages of 4096 bytes."""

    def share(self, domid: int, pages: int, writable: bool) -> GrantedPages:
        """Fresh zeroed pages of this domain, granted to `domid`."""

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> GrantedPages:
        """Pages that `domid` granted to this domain, one after another."""

    def copy(self, segments: Sequence[Segment]) -> Sequence[int]:
        """GNTTABOP_copy: have Xen copy each segment; how each ended, as GNTST_*. The segments are
        well formed: `Grants.copy` sees to that."""


class Foreign(NamedTuple):
    """An end of a copy in another domain: the bytes from `offset` on of a page it granted."""

    domid: int
    ref: int
    offset: int = 0

    def __str__(self) -> str:
        return f"domain {self.domid}'s reference {self.ref} at offset {self.offset}"


class Segment(NamedTuple):
    """`length` bytes to copy, from the beginning of one end to the beginning of the other.

    An end is `Foreign`, or memory of this domain: any contiguous buffer, such as a `bytearray` or
    a slice of a page it shares. (A page mapped from another domain is none of its own, Xen says
    GNTST_bad_page: name it as `Foreign`.) One of the two at least is foreign, and a foreign end
    stays within its page of 4096 bytes. Nothing is copied, nor asked of Xen, where `length` is 0.
    """

    source: Foreign | ReadableBuffer
    dest: Foreign | WriteableBuffer
    length: int

    def __str__(self) -> str:
        source, dest = (
            str(end) if isinstance(end, Foreign) else "own memory"
            for end in (self.source, self.dest)
        )
        return f"{self.length} bytes from {source} to {dest}"


class GrantedPages(Protocol):
    """Pages shared or mapped, as one stretch of memory, until `close`."""

    @property
    def domid(self) -> int:
        """The other domain."""

    @property
    def refs(self) -> tuple[int, ...]:
        """The pages' grant references, in order."""

    @property
    def memory(self) -> memoryview:
        """`len(refs) * 4096` bytes, read-only where the grant is."""

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        """When these pages go (closed, or the domain dies): clear the byte at this offset,
        send an event through this port (IOCTL_GNTDEV_SET_UNMAP_NOTIFY's two actions)."""

    def close(self) -> None:
        """Give the pages back. Raises `XenError`."""


class StoreUser(Protocol):
    """Whom a connection to xenstored tells what happens: its client."""

    def received(self, data: bytes) -> None:
        """These bytes came: parts of messages, or several."""

    def refused(self, message: bytes, error: Exception) -> None:
        """This message could not be sent; others may be."""

    def lost(self, error: Exception | None) -> None:
        """Nothing comes or goes any more. None where xenstored has ended it."""


class StoreConnection(Protocol):
    """A byte stream to xenstored that carries xs_wire messages.

    It lives by what the loop calls back, and has no task: a runner that cancels every task of a
    program, as `asyncio.Runner` does in the end, leaves it to those who clean up after themselves.
    """

    def start(self, user: StoreUser) -> None:
        """Listen from now on, on the running loop. Once, before anything is sent."""

    def send(self, message: bytes) -> None:
        """Send one whole message (header and payload): now, or as soon as there is room. Raises
        nothing: `user` is told."""

    def close(self) -> None:
        """End it: `user` is told nothing any more. Twice is harmless."""
