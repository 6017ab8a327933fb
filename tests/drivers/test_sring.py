"""Rings of requests and responses, at both ends, wherever their indices stand."""

from __future__ import annotations

from collections import deque
from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations.abi import ring as abi
from activations.ring import RingError
from activations.sring import BackRing, FrontRing, RingFull

WRAP = 1 << 32
STARTS = pytest.mark.parametrize("start", [0, WRAP - 1, WRAP - 3, WRAP - 32])


def connect(start: int = 0, *, pages: int = 1, entry: int = 112) -> tuple[FrontRing, BackRing]:
    memory = memoryview(bytearray(pages * 4096))
    return FrontRing(memory, entry, start=start), BackRing(memory, entry)


def page(start: int = 0) -> tuple[bytearray, FrontRing]:
    memory = bytearray(4096)
    return memory, FrontRing(memoryview(memory), 112, start=start)


@pytest.mark.parametrize(
    ("pages", "entry", "size"),
    [(1, 112, 32), (2, 112, 64), (4, 112, 128), (16, 112, 512), (1, 12, 256), (1, 8, 256)],
)
def test_a_ring_holds_the_largest_power_of_two_that_fits(pages: int, entry: int, size: int) -> None:
    """32 block requests in a page, 256 of the network's: as io/ring.h computes it."""
    front, back = connect(pages=pages, entry=entry)
    assert front.size == back.size == size


def test_an_entry_larger_than_the_ring_is_an_error() -> None:
    with pytest.raises(ValueError, match="not one entry of 5000 bytes fits"):
        connect(entry=5000)


@STARTS
def test_requests_and_responses_pass_in_order_across_the_wrap(start: int) -> None:
    front, back = connect(start)
    for number in range(100):
        front.put(b"request %d" % number)
        front.push()
        request = back.take()
        assert request is not None
        assert request.rstrip(b"\0") == b"request %d" % number
        back.put(b"answer %d" % number)
        back.push()
        response = front.take()
        assert response is not None
        assert response.startswith(b"answer %d" % number)
    assert front.take() is None
    assert back.take() is None


@STARTS
def test_a_full_ring_takes_no_more_until_a_response_was_taken(start: int) -> None:
    front, back = connect(start)
    for _ in range(front.size):
        front.put(b"request")
    with pytest.raises(RingFull):
        front.put(b"one too many")
    front.push()
    back.take()
    back.put(b"answer")
    back.push()
    assert front.free == 0
    front.take()
    assert front.free == 1
    front.put(b"again")


def test_a_back_end_answers_only_what_it_took() -> None:
    front, back = connect()
    front.put(b"request")
    front.push()
    with pytest.raises(RingFull, match="is answered already"):
        back.put(b"answer")


@STARTS
def test_a_busy_peer_is_not_notified_and_an_idle_one_is(start: int) -> None:
    front, back = connect(start)
    front.put(b"first")
    assert front.push(), "the back end has asked for the first"
    front.put(b"second")
    assert not front.push(), "it has not asked for more"
    assert back.take()
    assert back.take()
    assert back.idle()
    front.put(b"third")
    assert front.push(), "it has gone to sleep"


@STARTS
def test_what_came_before_going_to_sleep_is_not_slept_through(start: int) -> None:
    front, back = connect(start)
    assert back.take() is None
    front.put(b"request")
    front.push()
    assert not back.idle()
    assert back.take()
    back.put(b"answer")
    back.push()
    assert not front.idle()
    assert front.take()
    assert front.idle()
    assert back.idle()


def test_a_back_end_that_comes_back_finds_what_was_not_answered() -> None:
    memory = memoryview(bytearray(4096))
    front = FrontRing(memory, 112, start=WRAP - 2)
    first = BackRing(memory, 112)
    for number in range(4):
        front.put(b"%d" % number)
    front.push()
    for _ in range(3):
        first.take()
    first.put(b"0")
    first.push()
    second = BackRing(memory, 112)
    requests = [second.take() for _ in range(3)]
    assert [request[:1] for request in requests if request] == [b"1", b"2", b"3"]


def test_a_request_is_what_it_was_when_it_was_taken() -> None:
    memory, front = page()
    back = BackRing(memoryview(memory), 112)
    front.put(b"harmless")
    front.push()
    request = back.take()
    memory[abi.ENTRIES : abi.ENTRIES + 8] = b"changed!"
    assert request is not None
    assert request.startswith(b"harmless")


@pytest.mark.parametrize("ahead", [33, 1 << 31, WRAP - 1])
def test_a_front_end_too_far_ahead_is_an_error(ahead: int) -> None:
    memory, _ = page()
    back = BackRing(memoryview(memory), 112)
    pack_into("<I", memory, abi.REQ_PROD, ahead)
    with pytest.raises(RingError, match="requests in a ring of 32"):
        back.take()
    with pytest.raises(RingError):
        BackRing(memoryview(memory), 112)


@pytest.mark.parametrize("ahead", [2, 32, WRAP - 1])
def test_a_back_end_that_answers_what_nobody_asked_is_an_error(ahead: int) -> None:
    memory, front = page()
    front.put(b"one")
    front.push()
    pack_into("<I", memory, abi.RSP_PROD, ahead)
    with pytest.raises(RingError, match="responses to 1 requests"):
        front.take()


def test_an_entry_that_is_too_long_is_an_error() -> None:
    front, _ = connect()
    with pytest.raises(ValueError, match="113 bytes do not fit an entry of 112"):
        front.put(bytes(113))
    assert front.free == front.size


def test_a_ring_that_is_released_lets_go_of_its_memory() -> None:
    memory = memoryview(bytearray(4096))
    for ring in (FrontRing(memory, 112), BackRing(memory, 112)):
        ring.release()
    memory.release()


@settings(max_examples=200)
@given(
    start=st.sampled_from([0, WRAP - 1, WRAP - 5, WRAP - 17]),
    steps=st.lists(st.sampled_from(["request", "serve", "answer", "collect"]), max_size=200),
)
def test_whatever_the_order_nothing_is_lost_and_nobody_sleeps_for_ever(
    start: int, steps: list[str]
) -> None:
    """Each end does as drivers do: work while there is any, then `idle`, then sleep until it is
    notified. Both asleep with something to do would be a lost wake-up."""
    front, back = connect(start, entry=900)
    sent: deque[bytes] = deque()
    served: deque[bytes] = deque()
    awake = {"front": True, "back": True}
    number = 0
    for step in steps:
        match step:
            case "request" if front.free:
                number += 1
                request = b"%d" % number
                front.put(request)
                sent.append(request)
                awake["back"] |= front.push()
            case "serve" if awake["back"]:
                if (taken := back.take()) is None:
                    awake["back"] = not back.idle()
                else:
                    served.append(taken.rstrip(b"\0"))
            case "answer" if back.in_hand:
                back.put(served[-back.in_hand].ljust(20, b"\0"))
                awake["front"] |= back.push()
            case "collect" if awake["front"]:
                if (answer := front.take()) is None:
                    awake["front"] = not front.idle()
                else:
                    assert answer[:20].rstrip(b"\0") == sent.popleft()
        assert awake["back"] or back.in_hand == front.in_flight - unseen(front)
        assert awake["front"] or not unseen(front)


def unseen(front: FrontRing) -> int:
    """Responses that are published and not yet taken."""
    return (front._load(abi.RSP_PROD) - front._answered) & (WRAP - 1)


def test_a_ring_that_is_broken_from_the_start_holds_no_views() -> None:
    """Its memory is to be unmapped, while the error is on its way."""
    memory = bytearray(4096)
    memory[abi.REQ_PROD] = 33
    with pytest.raises(RingError) as caught, memoryview(memory) as view:
        BackRing(view, 112)
    memory.clear()  # BufferError if there were one
    assert caught.value.__traceback__ is not None
