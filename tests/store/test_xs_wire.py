"""xs_wire: the numbers are Xen's, and messages survive any cutting of the stream."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.abi import xs_wire
from activations.abi.xs_wire import MessageType
from activations.store import Access, Permission, WireError
from activations.store.wire import Decoder, Message, join, octets, strings, text

u32 = st.integers(0, 2**32 - 1)
messages = st.builds(Message, u32, st.binary(max_size=200), u32, u32)


def test_numbers_are_those_of_the_header() -> None:
    assert MessageType.WATCH_EVENT == 15
    assert MessageType.SET_TARGET == 19
    assert MessageType.RESET_WATCHES == 21, "20 was RESTRICT and stays unused"
    assert max(MessageType) == 26
    assert xs_wire.HEADER.size == 16
    assert xs_wire.ERRORS["EAGAIN"] == errno.EAGAIN
    assert xs_wire.ERROR_NAMES[errno.ENOENT] == "ENOENT"


def test_ring_page_layout_is_that_of_the_header() -> None:
    assert (xs_wire.RING_REQ, xs_wire.RING_RSP, xs_wire.RING_SIZE) == (0, 1024, 1024)
    assert (xs_wire.REQ_CONS, xs_wire.REQ_PROD) == (2048, 2052)
    assert (xs_wire.RSP_CONS, xs_wire.RSP_PROD) == (2056, 2060)
    assert (xs_wire.SERVER_FEATURES, xs_wire.CONNECTION) == (2064, 2068)
    assert (xs_wire.ERROR, xs_wire.EVTCHN_PORT) == (2072, 2076)


def test_a_message_is_a_header_and_its_payload() -> None:
    message = Message(MessageType.READ, b"name\0", req_id=1, tx_id=2)
    assert message.encode() == bytes.fromhex("02000000 01000000 02000000 05000000") + b"name\0"


@given(st.lists(messages, max_size=5), st.data())
def test_messages_survive_any_cutting_of_the_stream(
    sent: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(message.encode() for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    assert received == sent


@given(st.lists(st.binary(max_size=64), max_size=6))
def test_a_decoder_gives_messages_or_a_wire_error_whatever_it_is_fed(chunks: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for chunk in chunks:
            for message in decoder.feed(chunk):
                assert len(message.payload) <= xs_wire.PAYLOAD_MAX
    except WireError:
        pass


def test_messages_before_a_bad_header_still_come() -> None:
    good = Message(MessageType.READ, b"name\0")
    coming = Decoder().feed(good.encode() + xs_wire.HEADER.pack(2, 0, 0, 4097))
    assert next(coming) == good
    with pytest.raises(WireError, match="4097"):
        next(coming)


def test_a_decoder_that_is_told_so_takes_longer_payloads() -> None:
    long = xs_wire.HEADER.pack(1, 0, 0, 10_000) + bytes(10_000)
    decoder = Decoder(10_000)
    assert list(decoder.feed(long[:5000])) == []
    (message,) = decoder.feed(long[5000:])
    assert message.payload == bytes(10_000)
    with pytest.raises(WireError, match="10000 is the most there can be"):
        next(decoder.feed(xs_wire.HEADER.pack(1, 0, 0, 10_001)))


def test_a_payload_over_4096_bytes_is_not_encoded() -> None:
    assert len(Message(2, bytes(4096)).encode()) == 4112
    with pytest.raises(WireError, match="4097"):
        Message(2, bytes(4097)).encode()


def test_strings_each_end_in_a_nul() -> None:
    assert join("a", "", "bc") == b"a\0\0bc\0"
    assert strings(b"a\0\0bc\0dropped") == ["a", "", "bc"]
    with pytest.raises(ValueError, match="NUL"):
        join("a\0b")


@given(st.binary())
def test_bytes_that_are_no_text_survive_reading_and_writing(value: bytes) -> None:
    assert octets(text(value)) == value


def test_a_number_is_written_in_decimal() -> None:
    assert octets(4096) == b"4096"
    assert octets(True) == b"1"


@pytest.mark.parametrize(
    "value", [b"a c", bytearray(b"a c"), memoryview(b"a c"), memoryview(b"axxc")[::-1]]
)
def test_bytes_of_every_kind_are_written_as_they_are(value: Any) -> None:
    assert octets(value) == bytes(value)


@pytest.mark.parametrize("value", [None, 1.5, object(), ["a"]])
def test_what_has_no_value_but_a_repr_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is not text, bytes or a whole number"):
        octets(value)


@given(st.integers(0, 65535), st.sampled_from("nrwb"))
def test_a_permission_reads_as_it_is_written(domid: int, letter: str) -> None:
    assert str(Permission.parse(f"{letter}{domid}")) == f"{letter}{domid}"


def test_b_is_both() -> None:
    assert Permission.parse("b5") == (5, Access.READ | Access.WRITE)


@pytest.mark.parametrize("wrong", ["", "r", "5", "x5", "r-1", "r65536", "r5 ", "r٣", "rr5"])
def test_what_is_no_permission_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"permission|domid"):
        Permission.parse(wrong)
