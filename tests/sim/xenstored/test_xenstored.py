"""xenstored's tree: what requests do to it, as dom0 sees it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.xenstored_client import Client, Refusal

from activations.abi.xs_wire import HEADER, MessageType
from activations.store.wire import Message, strings
from xen_sim.xenstored import Xenstored, toolstack


@pytest.fixture
def xenstored() -> Xenstored:
    server = Xenstored()
    toolstack.introduce_dom0(server)
    return server


@pytest.fixture
def dom0(xenstored: Xenstored) -> Client:
    return Client(xenstored)


# Reading and writing


def test_a_value_is_bytes_and_may_hold_nuls(dom0: Client) -> None:
    dom0.write("/a", b"\0x\0\xff")
    assert dom0.read("/a") == b"\0x\0\xff"


def test_writing_makes_the_missing_parents_with_empty_values(dom0: Client) -> None:
    dom0.write("/a/b/c", "1")
    assert dom0.read("/a/b") == b""
    assert dom0.list("/a") == ["b"]
    assert dom0.list("/a/b") == ["c"]


def test_mkdir_leaves_what_exists_as_it_is(dom0: Client) -> None:
    dom0.write("/a", "1")
    dom0.mkdir("/a")
    assert dom0.read("/a") == b"1"
    dom0.mkdir("/b/c")
    assert dom0.read("/b/c") == b""


def test_a_node_may_have_a_value_and_children(dom0: Client) -> None:
    dom0.write("/a", "1")
    dom0.write("/a/b", "2")
    assert (dom0.read("/a"), dom0.list("/a")) == (b"1", ["b"])


def test_rm_takes_all_that_is_below(dom0: Client) -> None:
    dom0.write("/a/b/c")
    dom0.write("/a/b/d")
    dom0.write("/a/e")
    dom0.rm("/a/b")
    assert dom0.list("/a") == ["e"]
    for path in ("/a/b", "/a/b/c", "/a/b/d"):
        with Refusal("ENOENT"):
            dom0.read(path)


def test_rm_of_what_is_missing_is_fine_if_its_parent_is_there(dom0: Client) -> None:
    dom0.rm("/missing")
    with Refusal("ENOENT"):
        dom0.rm("/missing/below")


def test_the_deepest_path_a_guest_can_make_is_removed_like_any_other(xenstored: Xenstored) -> None:
    toolstack.introduce(xenstored, 1, "guest")
    guest = Client(xenstored, 1)
    dom0 = Client(xenstored)
    dom0.write("/local/domain/1/data/" + "x/" * 1020 + "x")
    guest.rm("data/x")
    assert guest.list("data") == []


def test_the_root_cannot_be_removed(dom0: Client) -> None:
    with Refusal("EINVAL"):
        dom0.rm("/")


def test_reading_what_is_missing_is_refused(dom0: Client) -> None:
    for ask in (dom0.read, dom0.list, dom0.perms):
        with Refusal("ENOENT"):
            ask("/missing")


def test_children_are_listed_by_age(dom0: Client) -> None:
    for name in ("b", "a", "10", "9"):
        dom0.write(f"/dir/{name}")
    dom0.rm("/dir/a")
    dom0.write("/dir/b", "changed")
    dom0.write("/dir/a", "again")
    assert dom0.list("/dir") == ["b", "10", "9", "a"]


# Paths


def test_a_relative_path_begins_at_the_domains_home(dom0: Client) -> None:
    dom0.write("data/x", "1")
    assert dom0.read("/local/domain/0/data/x") == b"1"


def test_a_path_may_have_2048_bytes_beyond_a_domains_home(dom0: Client) -> None:
    longest = "x" * 2048
    dom0.write(f"/local/domain/12345/{longest}")
    with Refusal("EINVAL"):
        dom0.write(f"/local/domain/12345/{longest}x")


# Long directories


def names(count: int) -> list[str]:
    return sorted(f"node-{number:04}" for number in range(count))


def in_parts(client: Client, path: str) -> tuple[bytes, set[bytes]]:
    listing, generations = b"", set()
    while not listing.endswith(b"\0\0"):
        reply = client.ask(MessageType.DIRECTORY_PART, path, str(len(listing)))
        generation, _, part = reply.partition(b"\0")
        generations.add(generation)
        listing += part
    return listing[:-1], generations


def test_a_listing_that_does_not_fit_is_e2big_and_comes_in_parts(dom0: Client) -> None:
    for name in names(1000):
        dom0.write(f"/dir/{name}")
    with Refusal("E2BIG"):
        dom0.list("/dir")
    listing, generations = in_parts(dom0, "/dir")
    assert strings(listing) == names(1000)
    assert len(generations) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(395, 415), st.integers(1, 12))
def test_every_length_around_one_part_comes_whole(count: int, longest: int) -> None:
    dom0 = Client(Xenstored())
    expected = sorted({f"{number:0{longest}}" for number in range(count)})
    for name in expected:
        dom0.write(f"/dir/{name}")
    assert strings(in_parts(dom0, "/dir")[0]) == expected


def test_a_change_gives_the_directory_another_generation(dom0: Client) -> None:
    dom0.write("/dir/a")
    before = dom0.ask(MessageType.DIRECTORY_PART, "/dir", "0").partition(b"\0")[0]
    dom0.write("/dir/b")
    after = dom0.ask(MessageType.DIRECTORY_PART, "/dir", "0").partition(b"\0")[0]
    assert before != after


def test_an_empty_directory_has_one_empty_part(dom0: Client) -> None:
    dom0.mkdir("/dir")
    assert dom0.ask(MessageType.DIRECTORY_PART, "/dir", "0").endswith(b"\0\0")
    assert dom0.ask(MessageType.DIRECTORY_PART, "/dir", "99").endswith(b"\0\0")


# The protocol


@pytest.mark.parametrize("kind", [15, 16, 20, 23, 26, 27, 0xFFFF, 2**32 - 1])
def test_what_is_no_request_is_enosys(xenstored: Xenstored, kind: int) -> None:
    connection = xenstored.connect(0)
    connection.receive(Message(kind, b"\0", 1).encode())
    assert connection.take_output() == Message(MessageType.ERROR, b"ENOSYS\0", 1).encode()


@pytest.mark.parametrize("payload", [b"", b"/tool", b"/tool\0more\0"])
def test_a_read_of_other_than_one_path_is_einval(xenstored: Xenstored, payload: bytes) -> None:
    """Xen 4.17's dies of these."""
    connection = xenstored.connect(0)
    connection.receive(Message(MessageType.READ, payload, 1).encode())
    assert connection.take_output() == Message(MessageType.ERROR, b"EINVAL\0", 1).encode()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("1 ", 1), ("1x", 1), (" 7", 7), ("x", 0), ("0x1", 0), ("²", 0), ("-1", 4294967295)],
)
def test_a_domid_is_the_number_that_its_text_begins_with(
    dom0: Client, said: str, meant: int
) -> None:
    path = dom0.ask(MessageType.GET_DOMAIN_PATH, said)
    assert path == f"/local/domain/{meant}\0".encode()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("r0x2", "r2"), ("w010", "w8"), ("b 3", "b3"), ("n+4", "n4"), ("r-1", "r-1")],
)
def test_a_domid_in_a_permission_is_a_number_of_c(dom0: Client, said: str, meant: str) -> None:
    dom0.set_perms("/tool", "n0", said)
    assert dom0.perms("/tool") == ["n0", meant]


@pytest.mark.parametrize("said", ["", "x", "n", "n1x", "n1 ", "w09", "r0x", "nn", "b0b1", "r²"])
def test_what_is_no_permission_is_einval(dom0: Client, said: str) -> None:
    for permissions in ([said], ["n0", said]):
        with Refusal("EINVAL"):
            dom0.set_perms("/tool", *permissions)


def test_replies_come_in_the_order_of_the_requests(xenstored: Xenstored) -> None:
    connection = xenstored.connect(0)
    requests = [Message(MessageType.READ, b"/tool\0", number) for number in (3, 1, 2)]
    connection.receive(b"".join(request.encode() for request in requests))
    assert connection.take_output() == b"".join(
        Message(MessageType.READ, b"", number).encode() for number in (3, 1, 2)
    )


def test_a_client_that_breaks_the_framing_is_cut_off_and_no_other(xenstored: Xenstored) -> None:
    bad, good = Client(xenstored, 1), Client(xenstored)
    bad.watch("/a")
    bad.connection.receive(HEADER.pack(MessageType.READ, 0, 0, 4097))
    assert bad.connection.broken
    good.write("/a", "1")
    assert bad.connection.take_output() == b"", "its watches are gone"
    bad.connection.receive(Message(MessageType.READ, b"/a\0").encode())
    assert bad.connection.take_output() == b"", "it is not listened to"
    assert good.read("/a") == b"1"


WORDS = [b"/", b"/a", b"/a/b", b"x", b"0", b"1", b"T", b"n1", b"@releaseDomain", b"\xff"]


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_receive_never_raises_whatever_the_bytes(chunks: list[bytes]) -> None:
    connection = Xenstored().connect(1)
    for chunk in chunks:
        connection.receive(chunk)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 27),
            st.integers(0, 3),
            st.lists(st.sampled_from(WORDS), max_size=4),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(0, 1),
)
def test_every_well_framed_request_has_exactly_one_answer(
    requests: list[tuple[int, int, list[bytes], bool]], domid: int
) -> None:
    server = Xenstored()
    client = Client(server, domid)
    for kind, tx_id, parts, ended in requests:
        payload = b"\0".join(parts) + (b"\0" if ended else b"")
        client.connection.receive(Message(kind, payload, 9, tx_id).encode())
        replies = [m for m in client.collect() if m.kind != MessageType.WATCH_EVENT]
        assert [reply.req_id for reply in replies] == [9]
        assert replies[0].kind in (kind, MessageType.ERROR)


def test_the_same_requests_give_the_same_bytes(xenstored: Xenstored) -> None:
    def run() -> bytes:
        server = Xenstored()
        toolstack.introduce_dom0(server)
        client = Client(server)
        for path in ("/local", "@introduceDomain"):
            client.watch(path)
        for domid in (3, 1, 2):
            toolstack.introduce(server, domid, f"guest{domid}")
        toolstack.release(server, 1)
        client.collect()
        return b"".join(message.encode() for message in client.log)

    assert run() == run()
