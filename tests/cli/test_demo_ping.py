"""Pings by hand: what is asked and answered, and that nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from activations.demo import ping
from activations.demo.ping import BROADCAST, Echo, Station

ALICE = Station(b"\x02alice", bytes([10, 0, 0, 1]))
BOB = Station(b"\x02bob..", bytes([10, 0, 0, 2]))

ECHO = Echo(7, b"are you there?")


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


def test_a_frame_within_a_frame_without_end_is_left_alone() -> None:
    """Which no parser follows to its end."""
    nested = (bytes(12) + b"\x65\x58") * 640
    assert ping.answer(BOB, nested) is None
    assert ping.is_at(BOB, nested) is None


@given(st.integers(0, 70))
def test_a_frame_that_is_cut_short_is_left_alone(length: int) -> None:
    echo = ping.echo(ALICE, BOB, ECHO)
    asked = ping.who_has(ALICE, BOB.address)
    assert ping.answer(BOB, echo[: min(length, len(echo) - 1)]) is None
    assert ping.answer(BOB, asked[: min(length, len(asked) - 1)]) is None
