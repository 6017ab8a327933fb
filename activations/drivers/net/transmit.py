"""Packets on their way out of a front end, in the entries of a tx ring. Nothing here waits.

A packet is one request or several, each a piece that lies in a granted page. The first request is
odd: its size is that of the whole packet, so its own piece is what the others leave. Extra infos
may follow it, in entries of their own.

    request   MORE, EXTRA   size 5000    904 bytes in this page
    extra info
    request                 size 4096    the rest

A piece may be empty: its page is not looked at, and its request is answered as the others are.

The front end encodes with `encode`. The back end feeds a `Gatherer`, which knows what a hostile
front end may do: a packet that is wrong is a `BadPacket`, and can be answered; one that would
never end is a `NetError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from activations.abi import netif as abi
from activations.abi.grant_table import PAGE_SIZE
from activations.abi.netif import Extra, Status, TxFlag
from activations.drivers.net.errors import BadPacket, NetError

HEADER = 14
"""Bytes of an Ethernet header: no packet is shorter."""

# as plain numbers, which a flag's operators are five times slower than
_MORE = int(TxFlag.MORE_DATA)
_EXTRA = int(TxFlag.EXTRA_INFO)
_BLANK = int(TxFlag.CSUM_BLANK)


class Piece(NamedTuple):
    """A part of a packet: `size` bytes from `offset` on in a granted page."""

    ref: int
    offset: int
    size: int


class Packet(NamedTuple):
    """A packet that a front end sends: where its bytes are, and what was said of it."""

    ids: tuple[int | None, ...]
    """Of its entries, in the ring's order; None for one that held an extra info."""
    pieces: tuple[Piece, ...]
    """Those that hold something."""
    csum_blank: bool

    @property
    def size(self) -> int:
        """Bytes, at most 65535."""
        return sum(piece.size for piece in self.pieces)


class Request(NamedTuple):
    """struct netif_tx_request."""

    ref: int
    offset: int
    flags: int
    id: int
    size: int


def sizes(length: int) -> Iterator[int]:
    """How a packet of `length` bytes is cut so that each piece fits a page."""
    for at in range(0, length, PAGE_SIZE):
        yield min(PAGE_SIZE, length - at)


def slots(length: int) -> int:
    """How many pages a packet takes."""
    return -(-length // PAGE_SIZE)


# The front end's half


def encode(pages: Sequence[tuple[int, int]], length: int) -> list[bytes]:
    """The requests for a packet of `length` bytes that lies in these pages, each an id and a
    grant reference, from the beginning of each."""
    requests = []
    total, last = length, len(pages) - 1
    for number, ((id, ref), size) in enumerate(zip(pages, sizes(length), strict=True)):
        flags = _MORE if number < last else 0
        requests.append(abi.TX_REQUEST.pack(ref, 0, flags, id, size if number else total))
    return requests


def decode_response(entry: bytes) -> tuple[int, int]:
    """The id and the status in a response. Any bytes are one."""
    id, status = abi.TX_RESPONSE.unpack_from(entry)
    return id, status


# The back end's half


class Gatherer:
    """Makes packets of the entries of one tx ring, added one after another.

    A packet's entries may come in several batches. `GSO` and `MCAST_*` were not offered, so an
    extra info that asks for them spoils its packet; a `HASH` does no harm.
    """

    def __init__(self) -> None:
        self._ids: list[int | None] = []
        self._requests: list[Request] = []
        self._extras: list[int] = []
        self._extra_follows = False

    def add(self, entry: bytes) -> Packet | None:
        """Take an entry, which is the reader's own copy; give the packet that it completes.

        Raises `BadPacket` where the packet that it completes is wrong, and `NetError` for one that
        has more entries than any packet may have.
        """
        if self._extra_follows:
            self._add_extra(entry)
        else:
            self._add_request(entry)
        if self._extra_follows or self._requests[-1].flags & _MORE:
            return None
        ids, requests, extras = tuple(self._ids), self._requests, self._extras
        self._ids, self._requests, self._extras = [], [], []
        return _packet(ids, requests, extras)

    def _add_request(self, entry: bytes) -> None:
        request = Request._make(abi.TX_REQUEST.unpack(entry))
        if len(self._requests) == abi.MAX_SLOTS:
            raise NetError(f"a packet of more than {abi.MAX_SLOTS} pieces")
        self._extra_follows = not self._requests and bool(request.flags & _EXTRA)
        self._requests.append(request)
        self._ids.append(request.id)

    def _add_extra(self, entry: bytes) -> None:
        kind, flags, _ = abi.EXTRA_INFO.unpack_from(entry)
        if len(self._extras) == len(Extra):
            raise NetError(f"a packet with more than {len(Extra)} extra infos")
        self._extra_follows = bool(flags & abi.EXTRA_FLAG_MORE)
        self._extras.append(kind)
        self._ids.append(None)


def encode_responses(ids: Sequence[int | None], status: Status) -> list[bytes]:
    """The answers to a packet's entries."""
    return [abi.TX_RESPONSE.pack(id or 0, Status.NULL if id is None else status) for id in ids]


def _packet(
    ids: tuple[int | None, ...], requests: Sequence[Request], extras: Sequence[int]
) -> Packet:
    """The packet, or what is wrong with it."""
    first, *others = requests
    pieces = [Piece(first.ref, first.offset, first.size)]
    if others:
        pieces += [Piece(other.ref, other.offset, other.size) for other in others]
        rest = sum([other.size for other in others])
        if rest > first.size:
            raise BadPacket(ids, f"{first.size} bytes in all, but {rest} behind the first piece")
        if any(other.flags & _EXTRA for other in others):
            raise BadPacket(ids, "an extra info announced behind the first piece")
        pieces[0] = Piece(first.ref, first.offset, first.size - rest)
    if first.size < HEADER:
        raise BadPacket(ids, f"{first.size} bytes, less than an Ethernet header")
    for _, offset, size in pieces:
        if offset + size > PAGE_SIZE:
            raise BadPacket(ids, f"{size} bytes from {offset} on cross the end of their page")
    for kind in extras:
        if kind != Extra.HASH:
            raise BadPacket(ids, f"an extra info of type {kind}, which was not offered")
    held = tuple(piece for piece in pieces if piece.size)
    return Packet(ids, held, bool(first.flags & _BLANK))
