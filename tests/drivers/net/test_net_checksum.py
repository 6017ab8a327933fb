"""Checksums of TCP and UDP, held against the loop of RFC 1071."""

from __future__ import annotations

from contextlib import suppress
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.drivers.net.checksum import NoChecksum, complete

TCP, UDP = 6, 17
ADDRESSES_4 = bytes([10, 0, 0, 1, 10, 0, 0, 2])
ADDRESSES_6 = bytes(range(32))
FIELD = {TCP: 16, UDP: 6}
PROTOCOLS = st.sampled_from([TCP, UDP])


def ones(data: bytes) -> int:
    """The sum, as RFC 1071 has it: words added one by one, carries at the end."""
    data += b"\0" * (len(data) % 2)
    total = sum(unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(protocol: int, data: bytes, blank: int = 0x1234) -> bytes:
    if protocol == UDP:
        return pack("!4H", 1000, 2000, 8 + len(data), blank) + data
    return pack("!HHIIHHHH", 1000, 2000, 1, 2, 0x5010, 512, blank, 0) + data


def ipv4(protocol: int, inner: bytes, *, options: bytes = b"", fragment: int = 0) -> bytearray:
    length = 20 + len(options) + len(inner)
    header = pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, length, 7, fragment, 64, protocol, 0)
    return bytearray(bytes(12) + b"\x08\x00" + header + ADDRESSES_4 + options + inner)


def ipv6(
    protocol: int, inner: bytes, *, before: bytes = b"", first: int | None = None
) -> bytearray:
    kind = protocol if first is None else first
    header = pack("!IHBB", 6 << 28, len(before) + len(inner), kind, 64)
    return bytearray(bytes(12) + b"\x86\xdd" + header + ADDRESSES_6 + before + inner)


def is_right(addresses: bytes, protocol: int, inner: bytes) -> bool:
    """Whether a receiver takes it: all words together are all ones."""
    return ones(addresses + pack("!HH", protocol, len(inner)) + inner) == 0xFFFF


@given(PROTOCOLS, st.binary(max_size=1500), st.integers(0, 0xFFFF))
def test_of_ipv4_whatever_was_there_before(protocol: int, data: bytes, blank: int) -> None:
    frame = ipv4(protocol, segment(protocol, data, blank))
    complete(frame)
    assert is_right(ADDRESSES_4, protocol, bytes(frame[34:]))


@given(PROTOCOLS, st.binary(max_size=1500))
def test_of_ipv6(protocol: int, data: bytes) -> None:
    frame = ipv6(protocol, segment(protocol, data))
    complete(frame)
    assert is_right(ADDRESSES_6, protocol, bytes(frame[54:]))


def test_of_what_lies_behind_options_and_extension_headers() -> None:
    inner = segment(UDP, b"hello")
    frame = ipv4(UDP, inner, options=bytes(8))
    complete(frame)
    assert is_right(ADDRESSES_4, UDP, bytes(frame[42:]))
    before = bytes([60, 1]) + bytes(14) + bytes([UDP, 0]) + bytes(6)
    frame = ipv6(UDP, inner, before=before, first=0)
    complete(frame)
    assert is_right(ADDRESSES_6, UDP, bytes(frame[54 + 24 :]))


def test_within_a_vlan() -> None:
    frame = ipv4(UDP, segment(UDP, b"hello"))
    frame[12:12] = b"\x81\x00\x00\x05"
    complete(frame)
    assert is_right(ADDRESSES_4, UDP, bytes(frame[38:]))


def test_padding_behind_the_packet_does_not_count() -> None:
    frame = ipv4(UDP, segment(UDP, b"hi")) + b"\xee" * 20
    complete(frame)
    assert is_right(ADDRESSES_4, UDP, bytes(frame[34:-20]))


@given(st.integers(0, 0xFFFF))
def test_a_udp_checksum_is_never_zero_which_would_mean_none(word: int) -> None:
    frame = ipv4(UDP, segment(UDP, word.to_bytes(2, "big")))
    complete(frame)
    assert frame[40:42] != b"\0\0"
    assert is_right(ADDRESSES_4, UDP, bytes(frame[34:]))


@pytest.mark.parametrize(
    "frame",
    [
        bytearray(14),
        ipv4(1, bytes(20)),
        ipv4(UDP, bytes(7)),
        ipv4(TCP, bytes(19)),
        ipv4(UDP, segment(UDP, b"x" * 50))[:60],
        ipv4(UDP, segment(UDP, b""), fragment=0x2000),
        ipv4(UDP, segment(UDP, b""), fragment=1),
        ipv6(58, bytes(20)),
        ipv6(0, b"", before=b"\0"),
    ],
)
def test_a_frame_without_one_is_refused_unchanged(frame: bytearray) -> None:
    before = bytes(frame)
    with pytest.raises(NoChecksum):
        complete(frame)
    assert frame == before


@given(st.binary(max_size=200), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00"]))
def test_any_frame_is_completed_or_refused(data: bytes, kind: bytes) -> None:
    frame = bytearray(bytes(12) + kind + data)
    length = len(frame)
    with suppress(NoChecksum):
        complete(frame)
    assert len(frame) == length
    assert frame[:14] == bytes(12) + kind
