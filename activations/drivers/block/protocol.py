"""Requests and responses of a block device, to and from the bytes in the ring.

Both ends use it: a front end encodes requests and decodes responses, a back end the reverse. The
other end may be hostile. `decode` gives a request that fits its own fields, or raises
`BadRequest`, which carries what the answer needs; nothing else comes out of it, whatever the bytes
are. What only the back end knows, the length of the disk, `check_range` holds them to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import le
from struct import Struct
from typing import NamedTuple, TypeAlias

from activations.abi import blkif as abi
from activations.abi.blkif import Op, Status
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
    """Read, write, barrier or flush, from `sector` on. A flush has no segments."""

    op: Op
    id: int
    sector: int
    handle: int
    segments: tuple[Segment, ...]


class Indirect(NamedTuple):
    """As `Request`, for `READ` or `WRITE`, with segments that lie in granted pages.

    `refs` are those pages, 512 segments each; `segments_in` decodes what they hold. In the ring
    the operation is `INDIRECT`; its response has `op`.
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


AnyRequest: TypeAlias = Request | Indirect | Discard
Segments: TypeAlias = Sequence[tuple[int, int, int]]
"""Segments as a back end has hundreds of them: `Segment`s, or plain tuples of the same."""

_WITH = tuple(
    Struct(
        abi.REQUEST.format
        + count * abi.SEGMENT.format[1:]
        + f"{(abi.MAX_SEGMENTS_PER_REQUEST - count) * abi.SEGMENT.size}x"
    )
    for count in range(abi.MAX_SEGMENTS_PER_REQUEST + 1)
)
"""A whole entry with so many segments."""

_DIRECT = {op.value: op for op in (Op.READ, Op.WRITE, Op.WRITE_BARRIER, Op.FLUSH_DISKCACHE)}
_INDIRECT = {op.value: op for op in (Op.READ, Op.WRITE)}
_MAY_BE_EMPTY = (Op.WRITE_BARRIER, Op.FLUSH_DISKCACHE)


def pages_for(count: int) -> int:
    """Indirect pages that hold so many segments."""
    return -(-count // abi.SEGMENTS_PER_INDIRECT_PAGE)


# The front end's half


def encode(request: AnyRequest) -> bytes:
    """The request's ring entry. Raises `ValueError` for one that `decode` would refuse by form:
    too many segments or too few, or a count that does not fit its pages."""
    if isinstance(request, Request):
        return _encode_direct(request)
    if isinstance(request, Discard):
        head = abi.DISCARD.pack(
            Op.DISCARD, request.secure, request.handle, request.id, request.sector, request.sectors
        )
    else:
        head = _encode_indirect(request)
    return head.ljust(abi.ENTRY_SIZE, b"\0")


def encode_segments(segments: Iterable[Segment]) -> bytes:
    """What an indirect page holds."""
    return b"".join(abi.SEGMENT.pack(*segment) for segment in segments)


def decode_response(entry: bytes) -> Response:
    """The response in the first 16 bytes of a ring entry. Any bytes are one."""
    return Response(*abi.RESPONSE.unpack_from(entry))


def _encode_direct(request: Request) -> bytes:
    op, id, sector, handle, segments = request
    if op.value not in _DIRECT or len(segments) > abi.MAX_SEGMENTS_PER_REQUEST:
        raise ValueError(f"{op.name} with {len(segments)} segments is no direct request")
    flat = [field for segment in segments for field in segment]
    return _WITH[len(segments)].pack(op, len(segments), handle, id, sector, *flat)


def _encode_indirect(request: Indirect) -> bytes:
    op, id, sector, handle, count, refs = request
    if len(refs) != pages_for(count) or len(refs) > abi.MAX_INDIRECT_PAGES_PER_REQUEST:
        raise ValueError(f"{count} segments do not lie in {len(refs)} indirect pages")
    unused = (0,) * (abi.MAX_INDIRECT_PAGES_PER_REQUEST - len(refs))
    return abi.INDIRECT.pack(Op.INDIRECT, op, count, id, sector, handle, *refs, *unused)


# The back end's half


def decode(entry: bytes, *, max_indirect: int = 0) -> AnyRequest:
    """The request in a ring entry of 112 bytes, which is the reader's own copy.

    `max_indirect` is how many segments an indirect request may have, 0 where they were not
    offered. Raises `BadRequest`, and nothing else.
    """
    op = entry[0]
    if op in _DIRECT:
        return _decode_direct(entry)
    if op == Op.DISCARD:
        _, flag, handle, id, sector, sectors = abi.DISCARD.unpack_from(entry)
        return Discard(id, sector, sectors, handle, bool(flag & abi.DiscardFlag.SECURE))
    if op == Op.INDIRECT and max_indirect:
        return _decode_indirect(entry, max_indirect)
    (id,) = abi.ID.unpack_from(entry)
    raise BadRequest(id, op, "not an operation that was offered", Status.EOPNOTSUPP)


def segments_in(pages: bytes, request: Indirect) -> Segments:
    """The segments of an indirect request, from a copy of its pages, one after another."""
    raw = pages[: request.nr_segments * abi.SEGMENT.size]
    segments = tuple(abi.SEGMENT.iter_unpack(raw))
    _check_segments(segments, request.id, request.op)
    return segments


def sectors_in(segments: Segments) -> int:
    """How many sectors they are together."""
    return sum([last - first for _, first, last in segments]) + len(segments)


def check_range(
    request: Request | Indirect | Discard, sectors: int, *, disk_sectors: int, unit: int = 1
) -> None:
    """Hold a request for so many sectors to a disk of `disk_sectors`.

    `unit` is the disk's own sector in sectors of 512 bytes; a request has to be aligned to it.
    Raises `BadRequest`.
    """
    op = Op.DISCARD if isinstance(request, Discard) else request.op
    if request.sector + sectors > disk_sectors:
        why = f"sectors {request.sector} to {request.sector + sectors} of {disk_sectors}"
        raise BadRequest(request.id, op, why)
    if request.sector % unit or sectors % unit:
        why = f"{sectors} sectors from {request.sector} on are not aligned to {unit}"
        raise BadRequest(request.id, op, why)


def encode_response(id: int, op: int, status: Status) -> bytes:
    """The response's 16 bytes."""
    return abi.RESPONSE.pack(id, op, status)


def _decode_direct(entry: bytes) -> Request:
    count = entry[1]
    if count > abi.MAX_SEGMENTS_PER_REQUEST:
        op, _, _, id, _ = abi.REQUEST.unpack_from(entry)
        raise BadRequest(id, op, f"{count} segments, of {abi.MAX_SEGMENTS_PER_REQUEST} at most")
    op, _, handle, id, sector, *flat = _WITH[count].unpack_from(entry)
    segments = tuple(map(Segment, flat[::3], flat[1::3], flat[2::3]))
    operation = _DIRECT[op]
    if not segments and operation not in _MAY_BE_EMPTY:
        raise BadRequest(id, op, "no segments")
    if segments and operation is Op.FLUSH_DISKCACHE:
        raise BadRequest(id, op, f"a flush with {count} segments")
    _check_segments(segments, id, op)
    return Request(operation, id, sector, handle, segments)


def _decode_indirect(entry: bytes, limit: int) -> Indirect:
    _, op, count, id, sector, handle, *refs = abi.INDIRECT.unpack_from(entry)
    if op not in _INDIRECT:
        raise BadRequest(id, op, "neither a read nor a write, but indirect", Status.EOPNOTSUPP)
    if not 0 < count <= limit:
        raise BadRequest(id, op, f"{count} indirect segments, of 1 to {limit}")
    return Indirect(_INDIRECT[op], id, sector, handle, count, tuple(refs[: pages_for(count)]))


def _check_segments(segments: Segments, id: int, op: int) -> None:
    if not segments:
        return
    _, firsts, lasts = zip(*segments, strict=True)
    if max(lasts) < abi.SECTORS_PER_PAGE and all(map(le, firsts, lasts)):
        return
    for ref, first, last in segments:
        if not first <= last < abi.SECTORS_PER_PAGE:
            raise BadRequest(id, op, f"sectors {first} to {last} of the page granted as {ref}")
