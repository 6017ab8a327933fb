"""Pings by hand: what is asked and answered, and that nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from activations.demo import ping
from activations.demo.ping import BROADCAST, Echo, Station

ALICE = Station(b"\x02alice", bytes([10, 0, 0, 1]))
BOB = Station(b"\x02bob..", bytes([10, 0, 0, 2]))

ECHO = Echo(7, b"are you there?")


def test_the_checksum_is_the_internets() -> None:
    """The example of RFC 1071; and bytes that hold their own checksum have none left."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert ping.checksum(data) == 0xFFFF - 0xDDF2
    assert ping.checksum(data + (0xFFFF - 0xDDF2).to_bytes(2)) == 0
    assert ping.checksum(bytes(8)) == 0xFFFF


@given(st.binary(max_size=200))
def test_the_checksum_is_the_sum_of_words_in_ones_complement(data: bytes) -> None:
    total = 0
    padded = data + bytes(len(data) % 2)
    for at in range(0, len(padded), 2):
        total += int.from_bytes(padded[at : at + 2])
        total = (total & 0xFFFF) + (total >> 16)
    assert ping.checksum(data) == total ^ 0xFFFF


def test_who_has_an_address_says_so_to_who_asked() -> None:
    asked = ping.who_has(ALICE, BOB.address)
    assert asked[:6] == BROADCAST
    answered = ping.answer(BOB, asked)
    assert answered is not None
    assert ping.is_at(ALICE, answered) == BOB
    assert ping.answer(ALICE, asked) is None, "it is not her address"
    assert ping.is_at(BOB, answered) is None, "he did not ask"


def test_an_echo_comes_back_as_it_was() -> None:
    answered = ping.answer(BOB, ping.echo(ALICE, BOB, ECHO))
    assert answered is not None
    assert answered[:6] == ALICE.mac
    assert ping.reply_in(ALICE, answered) == ECHO
    assert ping.answer(ALICE, answered) is None, "a reply is not answered"


@given(st.integers(min_value=0), st.integers(1, 255))
def test_no_echo_with_a_broken_byte_is_taken_for_one(place: int, change: int) -> None:
    """Of what the checksums cover: the packet, but not the Ethernet header before it."""
    frame = bytearray(ping.echo(ALICE, BOB, ECHO))
    frame[14 + place % (len(frame) - 14)] ^= change
    assert ping.answer(BOB, bytes(frame)) is None


@given(st.binary(max_size=120))
def test_no_bytes_whatever_are_anything_but_answered_or_left_alone(junk: bytes) -> None:
    for frame in (junk, ping.echo(ALICE, BOB, ECHO)[:14] + junk):
        for own in (ALICE, BOB):
            ping.is_at(own, frame)
            ping.reply_in(own, frame)
            answered = ping.answer(own, frame)
            assert answered is None or len(answered) >= 42


@given(st.integers(0, 70))
def test_a_frame_that_is_cut_short_is_left_alone(length: int) -> None:
    echo = ping.echo(ALICE, BOB, ECHO)
    asked = ping.who_has(ALICE, BOB.address)
    assert ping.answer(BOB, echo[: min(length, len(echo) - 1)]) is None
    assert ping.answer(BOB, asked[: min(length, len(asked) - 1)]) is None
