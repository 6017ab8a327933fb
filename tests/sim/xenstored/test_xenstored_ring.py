"""The ring page: bytes go round, indices wrap, and a broken ring breaks nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.abi import xs_wire
from activations.abi.xs_wire import HEADER, MessageType, RingFault
from activations.ring import ByteRing, RingError
from activations.store.page import StorePage
from activations.store.wire import Decoder, Message, join
from xen_sim.xenstored import RingServer, Xenstored, toolstack

WRAP = 2**32
starts = st.sampled_from([0, 1, 1023, WRAP - 1, WRAP - 7, WRAP - 1024, 2**31 - 3])


def ring(size: int = 16, start: int = 0) -> tuple[ByteRing, memoryview]:
    memory = memoryview(bytearray(size + 8))
    memory.cast("I")[size // 4] = memory.cast("I")[size // 4 + 1] = start
    return ByteRing(memory[:size], memory, cons=size, prod=size + 4), memory


@given(starts, st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 20)), max_size=40))
def test_bytes_come_out_as_they_went_in_wherever_the_indices_start(
    start: int, turns: list[tuple[bytes, int]]
) -> None:
    under_test, _ = ring(start=start)
    queue = b""
    for data, limit in turns:
        written = under_test.write(data)
        assert written == min(len(data), 16 - len(queue))
        queue += data[:written]
        assert (under_test.used, under_test.free) == (len(queue), 16 - len(queue))
        assert under_test.read(limit) == queue[:limit]
        queue = queue[limit:]
    assert under_test.read() == queue


def test_indices_run_freely_past_2_to_the_32() -> None:
    under_test, memory = ring(start=WRAP - 2)
    assert under_test.write(b"abcd") == 4
    assert list(memory.cast("I")[4:]) == [WRAP - 2, 2]
    assert under_test.read() == b"abcd"
    assert list(memory.cast("I")[4:]) == [2, 2]


@pytest.mark.parametrize(("cons", "prod"), [(0, 17), (1, 0), (WRAP - 1, 16), (0, WRAP - 1)])
def test_more_between_the_indices_than_fits_is_an_error(cons: int, prod: int) -> None:
    under_test, memory = ring()
    memory.cast("I")[4], memory.cast("I")[5] = cons, prod
    for broken in (under_test.read, lambda: under_test.write(b"x"), lambda: under_test.used):
        with pytest.raises(RingError, match="ring of 16"):
            broken()


@pytest.mark.parametrize("size", [0, 12])
def test_a_rings_size_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ByteRing(memoryview(bytearray(size)), memoryview(bytearray(8)), cons=0, prod=4)


class Guest:
    """A guest at its ring page: `kicks` counts the events it was sent."""

    def __init__(self, xenstored: Xenstored, domid: int, start: int = 0) -> None:
        self.memory = memoryview(bytearray(4096))
        self.words = self.memory.cast("I")
        for index in (xs_wire.REQ_CONS, xs_wire.REQ_PROD, xs_wire.RSP_CONS, xs_wire.RSP_PROD):
            self.words[index // 4] = start
        self.page = StorePage(self.memory)
        self.kicks = 0
        self.connection = xenstored.connect(domid)
        self.server = RingServer(self.memory, self.connection, self._kicked)
        self._decoder = Decoder()

    def _kicked(self) -> None:
        self.kicks += 1

    def send(self, data: bytes) -> None:
        """All of it, as room comes."""
        while data:
            data = data[self.page.requests.write(data) :]
            self.server.kick()

    def received(self) -> list[Message]:
        """All there is, making room for more."""
        messages: list[Message] = []
        while data := self.page.responses.read():
            messages += self._decoder.feed(data)
            self.server.kick()
        return messages


@pytest.fixture
def xenstored() -> Xenstored:
    server = Xenstored()
    toolstack.introduce(server, 1, "guest")
    return server


@pytest.mark.parametrize("start", [0, 1000, WRAP - 1, WRAP - 500])
def test_messages_longer_than_the_ring_go_through_it_wherever_it_starts(
    xenstored: Xenstored, start: int
) -> None:
    guest = Guest(xenstored, 1, start)
    guest.send(Message(MessageType.WRITE, join("data/x") + b"v" * 1900, 1).encode())
    guest.send(Message(MessageType.READ, join("data/x"), 2).encode())
    assert guest.received() == [
        Message(MessageType.WRITE, b"OK\0", 1),
        Message(MessageType.READ, b"v" * 1900, 2),
    ]


def test_the_guest_is_sent_an_event_for_what_it_gets(xenstored: Xenstored) -> None:
    guest = Guest(xenstored, 1)
    guest.server.kick()
    assert guest.kicks == 0, "nothing moved"
    guest.send(Message(MessageType.READ, join("name")).encode())
    assert guest.kicks == 1


def test_anothers_change_reaches_the_page_by_itself(xenstored: Xenstored) -> None:
    guest, dom0 = Guest(xenstored, 1), Guest(xenstored, 0)
    guest.send(Message(MessageType.WATCH, join("data", "t")).encode())
    guest.received()
    kicks = guest.kicks
    dom0.send(Message(MessageType.WRITE, join("/local/domain/1/data/x")).encode())
    assert guest.kicks == kicks + 1
    assert guest.received() == [Message(MessageType.WATCH_EVENT, join("data/x", "t"))]


def test_a_guest_that_does_not_read_is_not_read_from_either(xenstored: Xenstored) -> None:
    guest = Guest(xenstored, 1)
    guest.connection.receive(Message(MessageType.WRITE, join("data/x") + b"v" * 1900, 1).encode())
    read = Message(MessageType.READ, join("data/x"), 2).encode()
    sent = 0
    while written := guest.page.requests.write(read):
        assert written == len(read) or guest.page.requests.free == 0
        sent += 1
        guest.server.kick()
        assert sent < 1000, "xenstored reads on and on"
    assert guest.page.requests.free == 0
    assert guest.connection.saturated
    messages = guest.received()
    assert messages[0].kind == MessageType.WRITE
    assert {message.payload for message in messages[1:]} == {b"v" * 1900}, "and then it goes on"


def test_indices_that_make_no_sense_end_the_service_of_this_page_alone(
    xenstored: Xenstored,
) -> None:
    bad, good = Guest(xenstored, 1), Guest(xenstored, 0)
    bad.words[xs_wire.REQ_PROD // 4] = 1025
    bad.server.kick()
    assert bad.page.fault == RingFault.RINGIDX
    assert bad.kicks == 1, "it is told"
    bad.server.kick()
    assert bad.kicks == 1
    good.send(Message(MessageType.READ, join("/local/domain/1/name")).encode())
    assert good.received()[0].payload == b"guest"


def test_an_overlong_payload_ends_the_service_of_this_page_alone(xenstored: Xenstored) -> None:
    guest = Guest(xenstored, 1)
    guest.send(HEADER.pack(MessageType.READ, 1, 0, 4097))
    assert guest.page.fault == RingFault.PROTO


@given(st.binary(min_size=2080, max_size=2080), st.integers(0, 1))
def test_no_page_content_makes_xenstored_fail(content: bytes, domid: int) -> None:
    server = Xenstored()
    guest = Guest(server, domid)
    guest.memory[: len(content)] = content
    guest.server.kick()
    guest.server.kick()


@given(st.binary(max_size=1024), starts)
def test_no_bytes_in_the_ring_make_xenstored_fail(content: bytes, start: int) -> None:
    guest = Guest(Xenstored(), 1, start)
    guest.page.requests.write(content)
    guest.server.kick()
