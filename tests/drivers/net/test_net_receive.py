"""Packets in the entries of an rx ring: lengths are not believed, pages are not lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.abi import netif as abi
from activations.abi.netif import Extra, RxFlag
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.receive import (
    Arrival,
    Collector,
    Offered,
    Part,
    decode_request,
    encode,
    encode_failure,
    encode_request,
)
from activations.drivers.net.transmit import sizes, slots

MORE, EXTRA = RxFlag.MORE_DATA, RxFlag.EXTRA_INFO


def response(id: int, status: int, flags: int = 0, *, offset: int = 0) -> bytes:
    return abi.RX_RESPONSE.pack(id, offset, flags, status)


def extra(kind: int, flags: int = 0) -> bytes:
    return abi.EXTRA_INFO.pack(kind, flags, bytes(6))


def collected(*entries: bytes) -> Arrival:
    """The packet that the last of these completes, in answer to the requests 0, 1, 2..."""
    collector = Collector()
    for id, entry in enumerate(entries[:-1]):
        assert collector.add(id, entry) is None
    arrival = collector.add(len(entries) - 1, entries[-1])
    assert arrival is not None
    assert not collector.unfinished
    return arrival


def test_a_packet_in_one_page() -> None:
    assert collected(response(0, 60, offset=64)) == Arrival((0,), (Part(0, 64, 60),), False)


def test_a_packet_in_several_pages() -> None:
    arrival = collected(response(0, 4096, MORE), response(1, 904))
    assert arrival.parts == (Part(0, 0, 4096), Part(1, 0, 904))


def test_an_extra_info_takes_the_page_whose_place_it_lies_in() -> None:
    entries = response(0, 4096, MORE | EXTRA), extra(Extra.HASH), response(2, 100)
    assert collected(*entries) == Arrival((0, 1, 2), (Part(0, 0, 4096), Part(2, 0, 100)), False)


def test_the_first_part_s_flags_speak_for_the_packet() -> None:
    assert collected(response(0, 60, RxFlag.CSUM_BLANK)).csum_blank
    assert collected(response(0, 60, MORE | RxFlag.CSUM_BLANK), response(1, 10)).csum_blank
    assert not collected(response(0, 60, MORE), response(1, 10, RxFlag.CSUM_BLANK)).csum_blank


@given(length=st.integers(14, abi.MAX_TX_SIZE))
def test_what_our_back_end_encodes_is_what_our_front_end_takes(length: int) -> None:
    offered = [decode_request(encode_request(id, 100 + id)) for id in range(slots(length))]
    assert offered == [Offered(id, 100 + id) for id in range(slots(length))]
    arrival = collected(*encode(offered, length))
    assert [part.size for part in arrival.parts] == list(sizes(length))
    assert arrival.ids == tuple(page.id for page in offered)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([response(0, -1)], "answered -1"),
        ([response(0, -2)], "answered -2"),
        ([response(0, 13)], "a packet of 13 bytes"),
        ([response(0, 0)], "a packet of 0 bytes"),
        ([response(0, 4097)], "4097 bytes from 0 on cross the end"),
        ([response(0, 60, offset=4050)], "60 bytes from 4050 on"),
        ([response(0, 4096, MORE), response(1, -1)], "answered -1"),
        ([response(0, 60, EXTRA), extra(Extra.GSO)], "type 1, which was not asked for"),
        ([response(0, 4096, MORE), *(response(n, 4096, MORE) for n in range(1, 15)),
          response(15, 4096)], "a packet of 65536 bytes"),
    ],
)  # fmt: skip
def test_a_packet_that_cannot_be_taken_says_why_and_gives_its_pages_back(
    entries: list[bytes], why: str
) -> None:
    with pytest.raises(BadPacket, match=why) as caught:
        collected(*entries)
    assert caught.value.ids == tuple(range(len(entries)))


def test_a_failure_is_answered_in_every_page_that_it_took() -> None:
    collector = Collector()
    for id, entry in enumerate(encode_failure([Offered(0, 8), Offered(1, 9)])):
        with pytest.raises(BadPacket, match="answered -1"):
            collector.add(id, entry)


def test_an_answer_to_another_request_ends_the_device() -> None:
    with pytest.raises(NetError, match="answers request 7, and request 0 is next"):
        collected(response(7, 60))


@pytest.mark.parametrize("entry", [extra(Extra.HASH, 1), None])
def test_a_packet_without_end_ends_the_device(entry: bytes | None) -> None:
    collector = Collector()
    with pytest.raises(NetError, match="more than"):
        for id in range(100):
            collector.add(id, response(id, 10, MORE | (EXTRA if entry else 0)) if not id else
                          entry or response(id, 10, MORE))  # fmt: skip


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=60), st.booleans())
def test_any_entries_give_packets_that_fit_or_errors_and_lose_no_page(
    entries: list[bytes], honest: bool
) -> None:
    collector = Collector()
    held: list[int] = []
    for number, raw in enumerate(entries):
        # an honest id gets further than the first entry
        entry = number.to_bytes(2, "little") + raw[2:] if honest else raw
        held.append(number)
        try:
            arrival = collector.add(number, entry)
        except BadPacket as error:
            freed = error.ids
        except NetError:
            return
        else:
            freed = () if arrival is None else arrival.ids
            if arrival is not None:
                assert 14 <= sum(part.size for part in arrival.parts) <= abi.MAX_TX_SIZE
                assert all(0 <= part.offset + part.size <= 4096 for part in arrival.parts)
        if freed:
            assert list(freed) == held
            held.clear()
        assert collector.unfinished == len(held)
