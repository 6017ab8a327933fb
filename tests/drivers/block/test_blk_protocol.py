"""Block requests and responses as bytes: what is said is understood, and no bytes do harm."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.raw_blkfront import LAYOUTS

from activations.abi import blkif as abi
from activations.abi.blkif import X86_32, X86_64, Layout, Op, Status
from activations.drivers.block.protocol import (
    BadRequest,
    Discard,
    Indirect,
    Request,
    Response,
    Segment,
    check_range,
    decode,
    decode_response,
    encode,
    encode_response,
    encode_segments,
    pages_for,
    runs_in,
)
from activations.sring import FrontRing

u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
LIMIT = 4096
"""Indirect segments: eight pages of them."""

segments = st.builds(
    lambda ref, ends: Segment(ref, min(ends), max(ends)),
    u32,
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
)
data = st.builds(
    Request,
    st.sampled_from([Op.READ, Op.WRITE, Op.WRITE_BARRIER]),
    *(u64, u64, u16),
    st.lists(segments, min_size=1, max_size=11).map(encode_segments),
)
flushes = st.builds(Request, st.just(Op.FLUSH_DISKCACHE), u64, u64, u16, st.just(b""))
discards = st.builds(Discard, u64, u64, u64, u16, st.booleans())


@st.composite
def indirects(draw: st.DrawFn) -> Indirect:
    count = draw(st.integers(1, LIMIT))
    pages = st.lists(u32, min_size=pages_for(count), max_size=pages_for(count)).map(tuple)
    op = st.sampled_from([Op.READ, Op.WRITE])
    return Indirect(draw(op), draw(u64), draw(u64), draw(u16), count, draw(pages))


def entry(op: int, count: int, *, id: int = 7, rest: bytes = b"", layout: Layout = X86_64) -> bytes:
    return (layout.request.pack(op, count, 0, id, 0) + rest).ljust(layout.entry_size, b"\0")


def decoded(layout: Layout, raw: bytes, limit: int) -> Request | Indirect | Discard | BadRequest:
    """The request, or what was raised."""
    try:
        return decode(layout, raw, max_indirect=limit)
    except BadRequest as error:
        return error


@LAYOUTS
@given(data | flushes | discards | indirects())
def test_what_is_encoded_is_what_is_decoded(
    layout: Layout, request: Request | Indirect | Discard
) -> None:
    coded = encode(layout, request)
    assert len(coded) == layout.entry_size
    assert decode(layout, coded, max_indirect=LIMIT) == request


@LAYOUTS
@given(st.binary(min_size=112, max_size=112))
@example(entry(Op.INDIRECT, Op.READ))
@example(entry(Op.INDIRECT, Op.READ, layout=X86_32).ljust(112))
@example(b"\xff" * 112)
def test_any_bytes_are_a_request_or_a_bad_one(layout: Layout, raw: bytes) -> None:
    raw = raw[: layout.entry_size]
    for limit in (0, 1, 256, LIMIT):
        request = decoded(layout, raw, limit)
        if isinstance(request, BadRequest):
            assert (request.id,) == layout.id.unpack_from(raw)
            answer = encode_response(layout, request.id, request.op, request.status)
            assert decode_response(layout, answer).status in (Status.ERROR, Status.EOPNOTSUPP)
            continue
        assert decode(layout, encode(layout, request), max_indirect=limit) == request
        if isinstance(request, Request):
            lie_within_their_pages(request.segments, request)


@given(
    st.sampled_from([*Op, 4, 7]) | st.integers(0, 255),
    st.integers(0, 12) | st.integers(0, 255),
    st.binary(min_size=106, max_size=106),
    st.binary(min_size=4, max_size=4),
    st.sampled_from([0, 1, 256, LIMIT]),
)
def test_the_same_fields_are_the_same_request_in_either_layout(
    op: int, count: int, rest: bytes, filling: bytes, limit: int
) -> None:
    """To align its first u64, a 64-bit compiler fills up four bytes: that is all the difference."""
    short = bytes([op, count]) + rest
    long = short[:4] + filling + short[4:]
    here, there = decoded(X86_32, short, limit), decoded(X86_64, long, limit)
    assert type(here) is type(there)
    if isinstance(here, BadRequest) and isinstance(there, BadRequest):
        assert (here.id, here.op, here.status) == (there.id, there.op, there.status)
        assert str(here) == str(there)
    else:
        assert here == there


def lie_within_their_pages(raw: bytes, request: Request | Indirect) -> None:
    """If one does not, it is a bad request."""
    listed = [*abi.SEGMENT.iter_unpack(raw)]
    if not all(first <= last < 8 for _, first, last in listed):
        with pytest.raises(BadRequest) as caught:
            runs_in(raw, request)
        assert (caught.value.id, caught.value.op) == (request.id, request.op)
        return
    runs = runs_in(raw, request)
    assert runs.segments == listed
    assert all(0 < segment.offset + segment.length <= 4096 for segment in runs.segments)
    assert runs.sectors == sum(segment.sectors for segment in runs.segments)


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=40))
def test_any_bytes_are_segments_or_bad_ones(entries: list[bytes]) -> None:
    lie_within_their_pages(b"".join(entries), Indirect(Op.READ, 7, 0, 0, len(entries), (8,)))


@given(st.lists(segments, min_size=1, max_size=40), st.binary(min_size=2, max_size=2))
def test_what_fills_a_segment_up_to_eight_bytes_means_nothing(
    many: list[Segment], filling: bytes
) -> None:
    filled = b"".join(encode_segments([segment])[:6] + filling for segment in many)
    request = Indirect(Op.READ, 7, 0, 0, len(many), (8,))
    assert runs_in(filled, request).segments == many


@LAYOUTS
@given(st.integers(0, 7), st.binary(min_size=111, max_size=111))
def test_any_bytes_behind_a_known_operation_too(layout: Layout, op: int, raw: bytes) -> None:
    test_any_bytes_are_a_request_or_a_bad_one.hypothesis.inner_test(layout, bytes([op]) + raw)


@LAYOUTS
@given(u64, st.integers(0, 255), st.sampled_from(Status), st.binary(max_size=96))
def test_a_response_is_understood_whatever_follows_it(
    layout: Layout, id: int, op: int, status: Status, rest: bytes
) -> None:
    answer = encode_response(layout, id, op, status)
    assert decode_response(layout, answer + rest) == Response(id, op, status)


@pytest.mark.parametrize(("order", "slots"), [(0, 32), (1, 64), (2, 128), (3, 256), (4, 512)])
@LAYOUTS
def test_as_many_entries_fit_a_ring_in_either_layout(
    layout: Layout, order: int, slots: int
) -> None:
    ring = FrontRing(memoryview(bytearray(4096 << order)), layout.entry_size)
    assert ring.size == slots


@pytest.mark.parametrize("op", [4, 7, 255])
def test_an_unknown_operation_is_answered_as_not_supported(op: int) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(X86_64, entry(op, 1), max_indirect=LIMIT)
    assert (caught.value.id, caught.value.op) == (7, op)
    assert caught.value.status is Status.EOPNOTSUPP


def test_indirect_requests_are_not_supported_where_they_were_not_offered() -> None:
    with pytest.raises(BadRequest) as caught:
        decode(X86_64, encode(X86_64, Indirect(Op.READ, 7, 0, 0, 1, (8,))))
    assert caught.value.status is Status.EOPNOTSUPP


@pytest.mark.parametrize("count", [0, 257, 65535])
def test_an_indirect_request_has_as_many_segments_as_were_offered(count: int) -> None:
    raw = X86_64.indirect.pack(Op.INDIRECT, Op.READ, count, 7, 0, 0, *[8] * 8)
    with pytest.raises(BadRequest, match="256") as caught:
        decode(X86_64, raw.ljust(112, b"\0"), max_indirect=256)
    assert caught.value.op == Op.READ, "answered under the operation that it was to do"


@pytest.mark.parametrize("op", [Op.FLUSH_DISKCACHE, Op.INDIRECT, 99])
def test_an_indirect_request_reads_or_writes(op: int) -> None:
    raw = X86_64.indirect.pack(Op.INDIRECT, op, 1, 7, 0, 0, *[8] * 8)
    with pytest.raises(BadRequest, match="neither a read nor a write"):
        decode(X86_64, raw.ljust(112, b"\0"), max_indirect=256)


@pytest.mark.parametrize("count", [12, 255])
def test_eleven_segments_are_the_most(count: int) -> None:
    with pytest.raises(BadRequest, match="11 at most"):
        decode(X86_64, entry(Op.READ, count))


def test_a_read_has_a_segment_and_a_flush_has_none() -> None:
    with pytest.raises(BadRequest, match="no segments"):
        decode(X86_64, entry(Op.READ, 0))
    with pytest.raises(BadRequest, match="a flush with 1"):
        decode(X86_64, entry(Op.FLUSH_DISKCACHE, 1))


@pytest.mark.parametrize(("first", "last"), [(3, 2), (0, 8), (8, 8), (255, 255)])
def test_a_segment_lies_within_its_page(first: int, last: int) -> None:
    bad = abi.SEGMENT.pack(44, first, last)
    request = decode(X86_64, entry(Op.READ, 1, rest=bad))
    assert isinstance(request, Request)
    for each in (request, Indirect(Op.READ, 7, 0, 0, 1, (8,))):
        with pytest.raises(BadRequest, match="page granted as 44"):
            runs_in(bad, each)


@given(st.lists(segments, min_size=1, max_size=600))
def test_indirect_segments_are_read_from_their_pages(many: list[Segment]) -> None:
    refs = tuple(range(8, 8 + pages_for(len(many))))
    pages = encode_segments(many).ljust(len(refs) * 4096, b"\xff")
    assert runs_in(pages, Indirect(Op.READ, 7, 0, 0, len(many), refs)).segments == many


def test_what_cannot_be_said_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="12 segments"):
        encode(X86_64, Request(Op.READ, 0, 0, 0, encode_segments([Segment(8, 0, 7)] * 12)))
    with pytest.raises(ValueError, match="a direct request reads"):
        encode(X86_64, Request(Op.DISCARD, 0, 0, 0, b""))
    with pytest.raises(ValueError, match="1 indirect pages"):
        encode(X86_64, Indirect(Op.READ, 0, 0, 0, 513, (8,)))


def test_a_request_lies_on_the_disk() -> None:
    read = Request(Op.READ, 7, 95, 0, encode_segments([Segment(8, 0, 4)]))
    check_range(read, 5, disk_sectors=100)
    with pytest.raises(BadRequest, match="95 to 101 of 100"):
        check_range(read, 6, disk_sectors=100)
    with pytest.raises(BadRequest):
        check_range(read._replace(sector=(1 << 64) - 1), 1, disk_sectors=100)
    with pytest.raises(BadRequest) as caught:
        check_range(Discard(9, 0, 101), 101, disk_sectors=100)
    assert (caught.value.id, caught.value.op) == (9, Op.DISCARD)


def test_a_request_is_aligned_to_the_disks_own_sectors() -> None:
    read = Request(Op.READ, 7, 8, 0, encode_segments([Segment(8, 0, 7)]))
    check_range(read, 8, disk_sectors=100, unit=8)
    for sector, count in ((9, 8), (8, 7)):
        with pytest.raises(BadRequest, match="aligned"):
            check_range(read._replace(sector=sector), count, disk_sectors=100, unit=8)
