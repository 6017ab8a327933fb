"""The core of vchan without I/O: layouts, rings across the wrap of their indices, wake-ups.

Two ends work on one page of real bytes. Where it is about lost wake-ups, each is a greenlet that
gives up the processor before every access to the page, and chance says who goes on: finer than
anything two processors could do to each other, apart from the reordering that the fence prevents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from struct import pack_into
from typing import Any

import pytest
from anyio import BrokenResourceError
from greenlet import getcurrent, greenlet
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.parameters import one_in

from activations.abi import vchan as abi
from activations.abi.vchan import Live, Notify
from activations.vchan import VchanError
from activations.vchan.end import CLIENT, SERVER, End
from activations.vchan.layout import Layout, layout_for

NEAR_THE_WRAP = [0, 1, 2**31 - 1, 2**32 - 1025, 2**32 - 7, 2**32 - 1]


def ignore() -> None:
    pass


def ends(
    page: Any,
    index: int = 0,
    tell_client: Callable[[], None] = ignore,
    tell_server: Callable[[], None] = ignore,
) -> tuple[End, End]:
    """A server and a client on one page, rings of orders 10 and 11, indices beginning there."""
    left, right = page[1024:2048], page[2048:4096]
    server = End(SERVER, page, left, right, tell_client)
    client = End(CLIENT, page, right, left, tell_server)
    for offset in (abi.LEFT_CONS, abi.LEFT_PROD, abi.RIGHT_CONS, abi.RIGHT_PROD):
        page.cast("I")[offset // 4] = index
    return server, client


def fresh_page() -> memoryview:
    return memoryview(bytearray(4096))


# Layouts


@pytest.mark.parametrize(
    ("sizes", "orders"),
    [
        ((1, 1), (10, 11)),
        ((1024, 2048), (10, 11)),
        ((2048, 1024), (11, 10)),
        ((2048, 2048), (11, 12)),
        ((2048, 1 << 20), (11, 20)),
        ((1 << 20, 5), (20, 11)),
        ((2049, 4097), (12, 13)),
        ((1 << 20, 1 << 20), (20, 20)),
    ],
)
def test_sizes_get_the_orders_that_libxenvchan_chooses(
    sizes: tuple[int, int], orders: tuple[int, int]
) -> None:
    layout = layout_for(*sizes)
    assert (layout.left.order, layout.right.order) == orders


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), ((1 << 20) + 1, 1), (1, -5)])
def test_sizes_that_cannot_be(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a ring of"):
        layout_for(*sizes)


@given(left=st.integers(0, 0xFFFF), right=st.integers(0, 0xFFFF))
def test_orders_a_peer_may_name_are_refused_or_fit_the_page(left: int, right: int) -> None:
    try:
        layout = Layout.of(left, right)
    except VchanError:
        return
    grants_end = abi.GRANTS_AT + 4 * (layout.left.pages + layout.right.pages)
    page = fresh_page()
    inside = [place.within(page) for place in (layout.left, layout.right) if not place.pages]
    assert all(len(ring) >= 1024 for ring in inside)
    for ring in inside:
        ring[:] = b"\1" * len(ring)
    assert sum(page) == sum(map(len, inside)), "they overlap"
    assert not any(page[:grants_end]), "they lie on the references"


@pytest.mark.parametrize("orders", [(10, 10), (11, 11), (9, 12), (12, 21), (10, 20), (0, 0)])
def test_layouts_that_libxenvchan_has_not(orders: tuple[int, int]) -> None:
    with pytest.raises(VchanError, match="order") as caught:
        Layout.of(*orders)
    assert isinstance(caught.value, BrokenResourceError), "what anyio's code expects"


# The fields


def test_the_page_as_libxenvchan_lays_it_out() -> None:
    page = fresh_page()
    server, client = ends(page)
    server.expect()
    assert list(page[20:24]) == [2, 1, 1, 0], "cli_live, srv_live, cli_notify, srv_notify"
    client.arrive()
    assert list(page[20:24]) == [1, 1, 1, 1]
    client.write(memoryview(b"abc"))
    assert page.cast("I")[:4].tolist() == [0, 3, 0, 0], "left: cons, prod; right: cons, prod"
    assert bytes(page[1024:1027]) == b"abc"
    server.write(memoryview(b"de"))
    assert page.cast("I")[:4].tolist() == [0, 3, 0, 2]
    assert bytes(page[2048:2050]) == b"de"
    assert server.read(2) == b"ab"
    assert page.cast("I")[:4].tolist() == [2, 3, 0, 2]
    client.leave()
    assert server.peer == Live.GONE
    assert client.peer == Live.CONNECTED


def test_an_event_is_sent_only_where_it_was_asked_for_and_once() -> None:
    told = []
    page = fresh_page()
    server, client = ends(page, tell_server=lambda: told.append("server"))
    client.write(memoryview(b"x"))
    assert not told
    server.ask(Notify.WRITE)
    server.ask(Notify.READ)
    client.write(memoryview(b"x"))
    client.write(memoryview(b"x"))
    assert told == ["server"]
    assert page[abi.CLI_NOTIFY] == Notify.READ, "the other request stands"


def test_bits_that_mean_nothing_do_no_harm() -> None:
    page = fresh_page()
    server, client = ends(page)
    page[abi.CLI_NOTIFY] = page[abi.SRV_NOTIFY] = 0xFF
    client.write(memoryview(b"x"))
    assert server.read(9) == b"x"
    assert (page[abi.CLI_NOTIFY], page[abi.SRV_NOTIFY]) == (Notify.READ, Notify.WRITE)


class Stream(RuleBasedStateMachine):
    """Both directions at once against two byte strings, from anywhere on the circle of u32."""

    @initialize(index=st.sampled_from(NEAR_THE_WRAP) | st.integers(0, 2**32 - 1))
    def begin(self, index: int) -> None:
        self.page = fresh_page()
        self.ends = ends(self.page, index)
        self.under_way = [bytearray(), bytearray()]

    @rule(side=st.integers(0, 1), size=st.integers(0, 3000), filling=st.integers(0, 255))
    def write(self, side: int, size: int, filling: int) -> None:
        data = bytes((filling + at) & 0xFF for at in range(size))
        count = self.ends[side].write(memoryview(data))
        room = (2048, 1024)[side] - len(self.under_way[side])
        assert count == min(size, room)
        self.under_way[side] += data[:count]

    @rule(side=st.integers(0, 1), limit=st.integers(1, 3000))
    def read(self, side: int, limit: int) -> None:
        waiting = self.under_way[1 - side]
        assert self.ends[side].read(limit) == waiting[:limit]
        del waiting[:limit]

    @invariant()
    def fields_are_untouched(self) -> None:
        if hasattr(self, "page"):
            assert not any(self.page[20:1024])


TestStream = Stream.TestCase


# A peer that breaks the rules


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_whatever_the_indices_an_end_works_or_says_what_is_wrong(words: list[int]) -> None:
    page = fresh_page()
    for end in ends(page):
        pack_into("<4I", page, 0, *words)
        for operate in (partial(end.read, 5000), partial(end.write, memoryview(b"x"))):
            try:
                operate()
            except VchanError as error:
                said = str(error)
            else:
                said = "bytes in a ring of"
            assert "bytes in a ring of" in said


@given(noise=st.binary(min_size=24, max_size=24), size=st.integers(0, 3000))
def test_whatever_the_fields_an_end_neither_crashes_nor_leaves_its_rings(
    noise: bytes, size: int
) -> None:
    page = fresh_page()
    pair = ends(page)
    page[:24] = noise
    for end in pair:
        for operate in (
            partial(end.write, memoryview(bytes(size))),
            partial(end.read, size + 1),
            partial(end.ask, Notify.WRITE),
        ):
            try:
                operate()
            except VchanError:
                continue
    assert not any(page[24:1024])


# No wake-up is lost


class Stepped:
    """A view of memory that gives up the processor before every access by index."""

    def __init__(self, view: memoryview, step: Callable[[], None]) -> None:
        self._view = view
        self._step = step

    def cast(self, kind: Any) -> Stepped:
        return Stepped(self._view.cast(kind), self._step)

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, where: Any) -> Any:
        self._step()
        return self._view[where]

    def __setitem__(self, where: Any, what: Any) -> None:
        self._step()
        self._view[where] = what


class Two:
    """A client that sends and a server that receives, each on a greenlet of its own, each asleep
    until it is told. `run` raises if both sleep with bytes still to come."""

    def __init__(self, seed: int, total: int) -> None:
        self.random = Random(seed)
        self.total = total
        self.hub = getcurrent()
        self.pending = {"server": False, "client": False}
        view = fresh_page()
        page = Stepped(view, self.hub_step)
        self.server = self.end(SERVER, page, view[1024:2048], view[2048:], "client")
        self.client = self.end(CLIENT, page, view[2048:], view[1024:2048], "server")

    def end(self, fields: Any, page: Any, incoming: Any, outgoing: Any, other: str) -> End:
        return End(fields, page, incoming, outgoing, lambda: self.tell(other))

    def tell(self, who: str) -> None:
        self.hub_step()
        self.pending[who] = True

    def hub_step(self) -> None:
        if getcurrent() is not self.hub:
            self.hub.switch("running")

    def sleep(self, who: str) -> None:
        while not self.pending[who]:
            self.hub.switch("asleep")
        self.pending[who] = False

    def transfer(self, end: End, who: str, data: bytes, total: int) -> Iterator[bytes]:
        """Send `data` and receive `total` bytes, as an end does that waits for either."""
        sent = received = 0
        while sent < len(data) or received < total:
            moved = 0
            for attempt in range(2):
                if sent < len(data):
                    moved += (count := end.write(memoryview(data)[sent : sent + 700]))
                    sent += count
                if received < total and (came := end.read(600)):
                    moved += len(came)
                    received += len(came)
                    yield came
                if moved:
                    break
                if not attempt:
                    if sent < len(data):
                        end.ask(Notify.READ)
                    if received < total:
                        end.ask(Notify.WRITE)
            if not moved:
                self.sleep(who)

    def run(self) -> None:
        data = Random(self.total).randbytes(self.total)

        def live(end: End, who: str) -> None:
            assert b"".join(self.transfer(end, who, data, self.total)) == data

        living = {
            "server": greenlet(lambda: live(self.server, "server")),
            "client": greenlet(lambda: live(self.client, "client")),
        }
        asleep: set[str] = set()
        while living:
            ready = [who for who in living if who not in asleep or self.pending[who]]
            assert ready, "both sleep, and nobody will wake them"
            who = self.random.choice(ready)
            for _ in range(self.random.choice((1, 1, 1, 2, 5, 20))):
                asleep.discard(who)
                said = living[who].switch()
                if living[who].dead:
                    del living[who]
                    break
                if said == "asleep":
                    asleep.add(who)
                    break


@pytest.mark.parametrize("seed", one_in(4, range(100)))
def test_no_wake_up_is_lost_in_any_order_of_accesses(seed: int) -> None:
    Two(seed, 100_000).run()


def test_the_search_finds_an_end_that_does_not_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would miss if it were blind: a request that comes too late to count."""
    monkeypatch.setattr(End, "ask", lambda end, about: None)
    with pytest.raises(AssertionError, match="nobody will wake them"):
        for seed in range(60):
            Two(seed, 20_000).run()


def test_the_search_finds_an_end_that_wipes_out_a_request_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An end that clears its byte and then sends nothing unless its own bit was set."""

    def tell(end: Any, done: Notify) -> None:
        asked = end._control[end._fields.asked]
        end._control[end._fields.asked] = asked & ~done & 0xFF
        if asked & done:
            end._notify()

    monkeypatch.setattr(End, "_tell", tell)
    with pytest.raises(AssertionError, match="nobody will wake them"):
        for seed in range(500):
            Two(seed, 20_000).run()
