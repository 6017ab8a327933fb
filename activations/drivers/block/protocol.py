"""Requests and responses of a block device, to and from the bytes in the ring.

Both ends use it: a front end encodes requests and decodes responses, a back end the reverse, in the
layout that the front end has chosen. The other end may be hostile. `decode` gives a request that
fits its own fields, or raises `BadRequest`, which carries what the answer needs; nothing else comes
out of it, whatever the bytes are. What only the back end knows, the length of the disk,
`check_range` holds them to.

A request may have hundreds of segments. They stay the bytes that they are in the ring until
somebody has to look into them, and then `runs_in` looks at all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from operator import le
from struct import Struct
from typing import NamedTuple, TypeAlias

from activations.abi import blkif as abi
from activations.abi.blkif import Layout, Op, Status
from activations.errors import ActivationsError


class BlockError(ActivationsError):
    """The other end of a block device does not keep to the protocol, or speaks another one."""


class BadRequest(BlockError):
    """A request that cannot be done as it stands. Its front end is answered so.

    `id` and `op` are the request's, as numbers, an indirect one's op being what it is to do;
    `status` is what to answer.
    """

    def __init__(self, id: int, op: int, why: str, status: Status = Status.ERROR) -> None:
        self.id = id
        self.op = op
        self.status = status
        super().__init__(f"request {id:#x}, operation {op}: {why}")


class Segment(NamedTuple):
    """A run of sectors within a granted page, both ends included, 0 to 7."""

    ref: int
    first: int
    last: int

    @property
    def sectors(self) -> int:
        return self.last - self.first + 1

    @property
    def offset(self) -> int:
        """Bytes before it in its page."""
        return self.first * abi.SECTOR_SIZE

    @property
    def length(self) -> int:
        """Bytes."""
        return self.sectors * abi.SECTOR_SIZE


class Request(NamedTuple):
    """Read, write, barrier or flush, from `sector` on.

    `segments` are as `encode_segments` makes them. A flush has none.
    """

    op: Op
    id: int
    sector: int
    handle: int
    segments: bytes


class Indirect(NamedTuple):
    """As `Request`, for `READ` or `WRITE`, with segments that lie in granted pages.

    `refs` are those pages, 512 segments each. In the ring the operation is `INDIRECT`; its
    response has `op`.
    """

    op: Op
    id: int
    sector: int
    handle: int
    nr_segments: int
    refs: tuple[int, ...]


class Discard(NamedTuple):
    """`sectors` sectors from `sector` on are no longer needed; what they hold then is anything,
    or, with `secure`, gone for good."""

    id: int
    sector: int
    sectors: int
    handle: int = 0
    secure: bool = False


class Response(NamedTuple):
    """The end of the request of this id. `op` and `status` are numbers as the peer gave them:
    `Op` and `Status` where it keeps to the protocol."""

    id: int
    op: int
    status: int


class Runs(NamedTuple):
    """Segments that were looked into: a column for each of their fields, and all sectors
    together. Whole pages have 8 sectors each."""

    refs: tuple[int, ...]
    firsts: bytes
    lasts: bytes
    sectors: int

    @property
    def segments(self) -> list[Segment]:
        return [*map(Segment, self.refs, self.firsts, self.lasts)]


AnyRequest: TypeAlias = Request | Indirect | Discard

_DIRECT = {op.value: op for op in (Op.READ, Op.WRITE, Op.WRITE_BARRIER, Op.FLUSH_DISKCACHE)}
_INDIRECT = {op.value: op for op in (Op.READ, Op.WRITE)}
_OP_FLUSH, _OP_DISCARD = Op.FLUSH_DISKCACHE.value, Op.DISCARD.value
_OP_INDIRECT = Op.INDIRECT.value
"""As plain numbers: to find an enum's member takes as long as the rest of a decision."""
_MAY_BE_EMPTY = (Op.WRITE_BARRIER, Op.FLUSH_DISKCACHE)
_SEGMENT_SIZE = abi.SEGMENT.size


def pages_for(count: int) -> int:
    """Indirect pages that hold so many segments."""
    return -(-count // abi.SEGMENTS_PER_INDIRECT_PAGE)


# The front end's half


def encode(layout: Layout, request: AnyRequest) -> bytes:
    """The request's ring entry. Raises `ValueError` for one that `decode` would refuse by form:
    too many segments or too few, or a count that does not fit its pages."""
    if isinstance(request, Request):
        return _encode_direct(layout, request)
    if isinstance(request, Discard):
        id, sector, sectors, handle, secure = request
        head = layout.discard.pack(Op.DISCARD, secure, handle, id, sector, sectors)
    else:
        head = _encode_indirect(layout, request)
    return head.ljust(layout.entry_size, b"\0")


def encode_segments(segments: Iterable[Segment]) -> bytes:
    """As a request carries them, or an indirect page."""
    return b"".join(abi.SEGMENT.pack(*segment) for segment in segments)


def decode_response(layout: Layout, entry: bytes) -> Response:
    """The response in the first bytes of a ring entry. Any bytes are one."""
    return Response(*layout.response.unpack_from(entry))


def _encode_direct(layout: Layout, request: Request) -> bytes:
    op, id, sector, handle, segments = request
    count = len(segments) // _SEGMENT_SIZE
    if op not in _DIRECT or count > abi.MAX_SEGMENTS_PER_REQUEST:
        raise ValueError(
            f"{op.name} with {count} segments: a direct request reads, writes or flushes, with "
            f"{abi.MAX_SEGMENTS_PER_REQUEST} segments at most"
        )
    head = layout.request.pack(op, count, handle, id, sector)
    return (head + segments).ljust(layout.entry_size, b"\0")


def _encode_indirect(layout: Layout, request: Indirect) -> bytes:
    op, id, sector, handle, count, refs = request
    if len(refs) != pages_for(count) or len(refs) > abi.MAX_INDIRECT_PAGES_PER_REQUEST:
        raise ValueError(
            f"{count} segments in {len(refs)} indirect pages: they need {pages_for(count)}, and a "
            f"request has {abi.MAX_INDIRECT_PAGES_PER_REQUEST} at most"
        )
    unused = (0,) * (abi.MAX_INDIRECT_PAGES_PER_REQUEST - len(refs))
    return layout.indirect.pack(Op.INDIRECT, op, count, id, sector, handle, *refs, *unused)


# The back end's half


def decode(layout: Layout, entry: bytes, *, max_indirect: int = 0) -> AnyRequest:
    """The request in a ring entry, which is the reader's own copy and whole.

    `max_indirect` is how many segments an indirect request may have, 0 where they were not
    offered. Raises `BadRequest`, and nothing else.
    """
    op = entry[0]
    if op in _DIRECT:
        return _decode_direct(layout, entry)
    if op == _OP_INDIRECT and max_indirect:
        return _decode_indirect(layout, entry, max_indirect)
    if op == _OP_DISCARD:
        _, flag, handle, id, sector, sectors = layout.discard.unpack_from(entry)
        return Discard(id, sector, sectors, handle, bool(flag & abi.DiscardFlag.SECURE))
    (id,) = layout.id.unpack_from(entry)
    raise BadRequest(id, op, "not an operation that was offered", Status.EOPNOTSUPP)


def runs_in(segments: bytes, request: Request | Indirect) -> Runs:
    """Look into a request's segments; those of an indirect one are a copy of its pages, one after
    another, or of the beginning of them. Raises `BadRequest` if one does not lie in its page."""
    if isinstance(request, Indirect):
        segments = segments[: request.nr_segments * _SEGMENT_SIZE]
    count = len(segments) // _SEGMENT_SIZE
    whole = _whole_pages(count)
    refs = whole.refs.unpack(segments)
    firsts, lasts = segments[4::_SEGMENT_SIZE], segments[5::_SEGMENT_SIZE]
    if firsts == whole.firsts and lasts == whole.lasts:  # as nearly always
        return Runs(refs, firsts, lasts, count * abi.SECTORS_PER_PAGE)
    if max(lasts) >= abi.SECTORS_PER_PAGE or not all(map(le, firsts, lasts)):
        raise BadRequest(request.id, request.op, _astray(refs, firsts, lasts))
    return Runs(refs, firsts, lasts, sum(lasts) - sum(firsts) + count)


def check_range(
    request: Request | Indirect | Discard, sectors: int, *, disk_sectors: int, unit: int = 1
) -> None:
    """Hold a request for so many sectors to a disk of `disk_sectors`.

    `unit` is the disk's own sector in sectors of 512 bytes; a request has to be aligned to it.
    Raises `BadRequest`.
    """
    sector = request.sector
    if sector + sectors > disk_sectors:
        why = f"sectors {sector} to {sector + sectors} of {disk_sectors}"
    elif sector % unit or sectors % unit:
        why = f"{sectors} sectors from {sector} on are not aligned to {unit}"
    else:
        return
    op = Op.DISCARD if isinstance(request, Discard) else request.op
    raise BadRequest(request.id, op, why)


def encode_response(layout: Layout, id: int, op: int, status: Status) -> bytes:
    """The response's bytes."""
    return layout.response.pack(id, op, status)


def _decode_direct(layout: Layout, entry: bytes) -> Request:
    op, count, handle, id, sector = layout.request.unpack_from(entry)
    if count > abi.MAX_SEGMENTS_PER_REQUEST:
        raise BadRequest(id, op, f"{count} segments, of {abi.MAX_SEGMENTS_PER_REQUEST} at most")
    operation = _DIRECT[op]
    if not count and operation not in _MAY_BE_EMPTY:
        raise BadRequest(id, op, "no segments")
    if count and op == _OP_FLUSH:
        raise BadRequest(id, op, f"a flush with {count} segments")
    start = layout.request.size
    segments = entry[start : start + count * _SEGMENT_SIZE]
    return Request(operation, id, sector, handle, segments)


def _decode_indirect(layout: Layout, entry: bytes, limit: int) -> Indirect:
    _, op, count, id, sector, handle, *refs = layout.indirect.unpack_from(entry)
    if op not in _INDIRECT:
        raise BadRequest(id, op, "neither a read nor a write, but indirect", Status.EOPNOTSUPP)
    if not 0 < count <= limit:
        raise BadRequest(id, op, f"{count} indirect segments, of 1 to {limit}")
    return Indirect(_INDIRECT[op], id, sector, handle, count, tuple(refs[: pages_for(count)]))


class _WholePages(NamedTuple):
    """What so many segments look like that are whole pages each."""

    refs: Struct
    """Takes their references out of them."""
    firsts: bytes
    lasts: bytes


@cache
def _whole_pages(count: int) -> _WholePages:
    return _WholePages(
        Struct("<" + "I4x" * count), bytes(count), bytes([abi.SECTORS_PER_PAGE - 1]) * count
    )


def _astray(refs: tuple[int, ...], firsts: bytes, lasts: bytes) -> str:
    """The first segment that does not lie in its page, in words."""
    return next(
        f"sectors {first} to {last} of the page granted as {ref}"
        for ref, first, last in zip(refs, firsts, lasts, strict=True)
        if not first <= last < abi.SECTORS_PER_PAGE
    )
