"""Packets on their way into a front end, in the entries of an rx ring. Nothing here waits.

The front end offers empty pages; the back end fills as many as a packet takes, in order. A response
lies where its request lay: so the front end knows which page an extra info took, which has no id.

The back end encodes with `encode`; the front end feeds a `Collector`, which does not believe what
it is told of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from activations.abi import netif as abi
from activations.abi.grant_table import PAGE_SIZE
from activations.abi.netif import Extra, RxFlag, Status
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.transmit import HEADER, sizes

# as plain numbers: see `transmit`
_MORE = int(RxFlag.MORE_DATA)
_EXTRA = int(RxFlag.EXTRA_INFO)
_BLANK = int(RxFlag.CSUM_BLANK)


class Offered(NamedTuple):
    """struct netif_rx_request: an empty page."""

    id: int
    ref: int


class Part(NamedTuple):
    """A part of a packet: `size` bytes from `offset` on in the page of this id."""

    id: int
    offset: int
    size: int


class Arrival(NamedTuple):
    """A packet that came: its parts, and the ids of all entries that it took."""

    ids: tuple[int, ...]
    parts: tuple[Part, ...]
    csum_blank: bool


# The back end's half


def decode_request(entry: bytes) -> Offered:
    """The page that a request offers. Any bytes are one."""
    return Offered._make(abi.RX_REQUEST.unpack(entry))


def encode(pages: Sequence[Offered], length: int) -> list[bytes]:
    """The responses for a packet of `length` bytes, which fills these pages from the beginning
    of each."""
    last = len(pages) - 1
    return [
        abi.RX_RESPONSE.pack(page.id, 0, _MORE if number < last else 0, size)
        for number, (page, size) in enumerate(zip(pages, sizes(length), strict=True))
    ]


def encode_failure(pages: Sequence[Offered]) -> list[bytes]:
    """The responses that give pages back which could not be filled."""
    return [abi.RX_RESPONSE.pack(page.id, 0, 0, Status.ERROR) for page in pages]


# The front end's half


def encode_request(id: int, ref: int) -> bytes:
    """The request that offers a page."""
    return abi.RX_REQUEST.pack(id, ref)


class Collector:
    """Makes packets of the responses of one rx ring, added one after another."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._ids: list[int] = []
        self._parts: list[Part] = []
        self._extras: list[int] = []
        self._flags = 0
        """The first part's, but for `MORE_DATA`, which is the last one's."""
        self._extra_follows = False
        self._why = ""

    @property
    def unfinished(self) -> int:
        """Pages that a packet has taken whose end is yet to come."""
        return len(self._ids)

    def add(self, id: int, entry: bytes) -> Arrival | None:
        """Take the response that lies where the request `id` lay; give the packet that it
        completes.

        Raises `BadPacket` where that packet is wrong: its `ids` are free again. Raises `NetError`
        where the back end answers with another request's id, or a packet has no end.
        """
        self._ids.append(id)
        if self._extra_follows:
            self._add_extra(entry)
        else:
            self._add_part(id, entry)
        if self._extra_follows or self._flags & _MORE:
            return None
        return self._finish()

    def _add_part(self, id: int, entry: bytes) -> None:
        said, offset, flags, status = abi.RX_RESPONSE.unpack(entry)
        if said != id:
            raise NetError(f"the back end answers request {said}, and request {id} is next")
        if len(self._parts) == abi.MAX_SLOTS:
            raise NetError(f"a packet of more than {abi.MAX_SLOTS} parts")
        if status < 0:
            self._why = self._why or f"the back end answered {status}"
        elif offset + status > PAGE_SIZE:
            self._why = self._why or f"{status} bytes from {offset} on cross the end of their page"
        first = not self._parts
        self._parts.append(Part(id, offset, status))
        self._extra_follows = first and bool(flags & _EXTRA)
        own = flags & _MORE
        self._flags = flags if first else self._flags & ~_MORE | own

    def _add_extra(self, entry: bytes) -> None:
        kind, flags, _ = abi.EXTRA_INFO.unpack_from(entry)
        if len(self._extras) == len(Extra):
            raise NetError(f"a packet with more than {len(Extra)} extra infos")
        self._extras.append(kind)
        self._extra_follows = bool(flags & abi.EXTRA_FLAG_MORE)

    def _finish(self) -> Arrival:
        ids, parts, flags, why = tuple(self._ids), tuple(self._parts), self._flags, self._why
        if refused := [kind for kind in self._extras if kind != Extra.HASH]:
            why = why or f"an extra info of type {refused[0]}, which was not asked for"
        self._begin()
        length = sum(part.size for part in parts)
        if not why and not HEADER <= length <= abi.MAX_TX_SIZE:
            why = f"a packet of {length} bytes"
        if why:
            raise BadPacket(ids, why)
        return Arrival(ids, parts, bool(flags & _BLANK))
