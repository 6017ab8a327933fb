"""Packets in the entries of a tx ring: what comes out fits, or is an error by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.abi import netif as abi
from activations.abi.netif import Extra, Status, TxFlag
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.transmit import (
    Gatherer,
    Packet,
    Piece,
    decode_response,
    encode,
    encode_responses,
    sizes,
    slots,
)

MORE, EXTRA, BLANK = TxFlag.MORE_DATA, TxFlag.EXTRA_INFO, TxFlag.CSUM_BLANK


def request(size: int, flags: int = 0, *, id: int = 0, ref: int = 8, offset: int = 0) -> bytes:
    return abi.TX_REQUEST.pack(ref, offset, flags, id, size)


def extra(kind: int, flags: int = 0) -> bytes:
    return abi.EXTRA_INFO.pack(kind, flags, bytes(6)).ljust(abi.TX_ENTRY_SIZE, b"\0")


def gathered(*entries: bytes) -> Packet:
    """The packet that the last of these entries completes, and no earlier one."""
    gatherer = Gatherer()
    for entry in entries[:-1]:
        assert gatherer.add(entry) is None
    packet = gatherer.add(entries[-1])
    assert packet is not None
    return packet


def fault(*entries: bytes) -> BadPacket:
    with pytest.raises(BadPacket) as caught:
        gathered(*entries)
    return caught.value


# What a front end sends


def test_a_packet_in_one_page() -> None:
    packet = gathered(request(60, id=3, ref=17, offset=100))
    assert packet == Packet((3,), (Piece(17, 100, 60),), False)
    assert packet.size == 60


def test_the_first_size_is_the_whole_packet_s() -> None:
    entries = request(5000, MORE, id=1, ref=7), request(4096, id=2, ref=9)
    assert gathered(*entries) == Packet((1, 2), (Piece(7, 0, 904), Piece(9, 0, 4096)), False)


def test_a_blank_checksum_is_told_of() -> None:
    assert gathered(request(60, BLANK | TxFlag.DATA_VALIDATED)).csum_blank
    assert not gathered(request(60, TxFlag.DATA_VALIDATED)).csum_blank


def test_a_hash_does_no_harm_and_its_entry_is_answered_as_none() -> None:
    packet = gathered(request(60, EXTRA, id=5), extra(Extra.HASH, abi.EXTRA_FLAG_MORE), extra(4))
    assert packet.ids == (5, None, None)
    answers = [decode_response(entry) for entry in encode_responses(packet.ids, Status.OKAY)]
    assert answers == [(5, Status.OKAY), (0, Status.NULL), (0, Status.NULL)]


@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ([60, 0], [(8, 60)]),
        ([60, 0, 0, 0], [(8, 60)]),
        ([60, 0, 20, 0], [(8, 40), (10, 20)]),
        ([60, 60], [(9, 60)]),
    ],
)
def test_a_piece_may_be_empty_and_its_page_is_not_looked_at(
    sizes: list[int], held: list[tuple[int, int]]
) -> None:
    last = len(sizes) - 1
    packet = gathered(
        *(
            request(size, MORE if at < last else 0, id=at, ref=8 + at)
            for at, size in enumerate(sizes)
        )
    )
    assert packet.size == 60
    assert packet.ids == tuple(range(len(sizes)))
    assert [(piece.ref, piece.size) for piece in packet.pieces] == held


def test_packets_follow_each_other() -> None:
    gatherer = Gatherer()
    ids = []
    for number in range(0, 40, 2):
        assert gatherer.add(request(100, MORE, id=number)) is None
        packet = gatherer.add(request(50, id=number + 1))
        assert packet is not None
        ids += packet.ids
    assert ids == list(range(40))


@given(length=st.integers(14, abi.MAX_TX_SIZE))
def test_what_our_front_end_encodes_is_what_our_back_end_takes(length: int) -> None:
    pages = [(id, 100 + id) for id in range(slots(length))]
    packet = gathered(*encode(pages, length))
    assert packet.ids == tuple(id for id, _ in pages)
    assert packet.size == length
    assert [(piece.ref, piece.offset) for piece in packet.pieces] == [(ref, 0) for _, ref in pages]
    assert [piece.size for piece in packet.pieces] == list(sizes(length))


# What a hostile front end sends


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([request(0)], "0 bytes, less than an Ethernet header"),
        ([request(13)], "13 bytes, less than"),
        ([request(4097)], "4097 bytes from 0 on cross the end"),
        ([request(60, offset=4050)], "60 bytes from 4050 on cross the end"),
        ([request(60, offset=0xFFFF)], "cross the end"),
        ([request(60, MORE), request(0, offset=4097)], "0 bytes from 4097 on cross the end"),
        ([request(100, MORE), request(101)], "100 bytes in all, but 101 behind"),
        ([request(9000, MORE), request(10)], "8990 bytes from 0 on cross the end"),
        ([request(100, MORE), request(50, EXTRA)], "announced behind the first piece"),
        ([request(60, EXTRA), extra(Extra.GSO)], "type 1, which was not offered"),
        ([request(60, EXTRA), extra(Extra.MCAST_ADD)], "type 2, which was not offered"),
        ([request(60, EXTRA), extra(77)], "type 77, which was not offered"),
    ],
)
def test_a_packet_that_cannot_be_taken_says_why(entries: list[bytes], why: str) -> None:
    assert why in str(fault(*entries))


def test_a_bad_packet_is_answered_in_every_entry_that_it_took() -> None:
    entries = [request(100, MORE | EXTRA, id=4), extra(Extra.GSO), request(200, id=6)]
    refused = fault(*entries)
    assert refused.ids == (4, None, 6)
    answers = [decode_response(entry) for entry in encode_responses(refused.ids, Status.ERROR)]
    assert answers == [(4, Status.ERROR), (0, Status.NULL), (6, Status.ERROR)]


def test_after_a_bad_packet_the_next_is_taken() -> None:
    gatherer = Gatherer()
    with pytest.raises(BadPacket):
        gatherer.add(request(1))
    assert gatherer.add(request(60, id=1)) == Packet((1,), (Piece(8, 0, 60),), False)


def test_eighteen_pieces_are_taken_and_nineteen_end_the_device() -> None:
    pieces = [request(18 * 100, MORE)] + [request(100, MORE) for _ in range(17)]
    assert gathered(*pieces[:17], request(100)).size == 1800
    with pytest.raises(NetError, match="more than 18 pieces") as caught:
        gathered(*pieces, request(100))
    assert not isinstance(caught.value, BadPacket)


def test_extra_infos_without_end_end_the_device() -> None:
    entries = [extra(Extra.HASH, abi.EXTRA_FLAG_MORE) for _ in range(9)]
    with pytest.raises(NetError, match="more than 4 extra infos") as caught:
        gathered(request(60, EXTRA), *entries)
    assert not isinstance(caught.value, BadPacket)


ENTRIES = st.one_of(
    st.binary(min_size=12, max_size=12),
    st.builds(
        request,
        st.sampled_from([0, 13, 14, 60, 4096, 5000, 0xFFFF]),
        st.sampled_from([0, MORE, EXTRA, MORE | EXTRA, BLANK]),
        id=st.integers(0, 255),
        offset=st.sampled_from([0, 0, 0, 100, 4095, 0xFFFF]),
    ),
    st.builds(extra, st.integers(0, 5), st.sampled_from([0, 1])),
)


@given(st.lists(ENTRIES, max_size=60))
def test_any_entries_give_packets_that_fit_or_errors_and_each_is_answered_once(
    entries: list[bytes],
) -> None:
    gatherer = Gatherer()
    answered = 0
    for entry in entries:
        try:
            packet = gatherer.add(entry)
        except BadPacket as error:
            answered += len(error.ids)
        except NetError:
            return
        else:
            if packet is not None:
                answered += len(packet.ids)
                assert 14 <= packet.size <= abi.MAX_TX_SIZE
                assert 1 <= len(packet.pieces) <= abi.MAX_SLOTS
                for piece in packet.pieces:
                    assert piece.size > 0
                    assert piece.offset + piece.size <= 4096
    assert len(entries) - answered <= abi.MAX_SLOTS + len(Extra)
