"""Transactions: all or nothing, and nothing where another's change met them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.xenstored_client import Client, Refusal

from activations.abi.xs_wire import MessageType
from xen_sim.xenstored import Xenstored


@pytest.fixture
def xenstored() -> Xenstored:
    return Xenstored()


@pytest.fixture
def alice(xenstored: Xenstored) -> Client:
    client = Client(xenstored)
    client.write("/a", "0")
    client.write("/b", "0")
    return client


@pytest.fixture
def bob(xenstored: Xenstored) -> Client:
    return Client(xenstored)


@contextmanager
def within(client: Client, transaction: int) -> Iterator[Client]:
    client.tx_id = transaction
    yield client
    client.tx_id = 0


def test_changes_are_seen_within_and_by_others_only_after_the_commit(
    alice: Client, bob: Client
) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/a", "1")
        alice.write("/new/below", "2")
        alice.rm("/b")
        assert alice.read("/a") == b"1"
        assert alice.list("/new") == ["below"]
        assert "b" not in alice.list("/")
    assert bob.read("/a") == b"0"
    assert bob.list("/") == ["tool", "a", "b"]
    alice.end(transaction)
    assert bob.read("/a") == b"1"
    assert bob.list("/") == ["tool", "a", "new"]
    assert bob.read("/new/below") == b"2"


def test_an_aborted_transaction_changes_nothing(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/a", "1")
        alice.rm("/b")
    alice.end(transaction, "F")
    assert (bob.read("/a"), bob.read("/b")) == (b"0", b"0")


def test_a_write_to_what_was_read_is_a_conflict(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.read("/a")
        alice.write("/b", "alice")
    bob.write("/a", "bob")
    with Refusal("EAGAIN"):
        alice.end(transaction)
    assert bob.read("/b") == b"0"


def test_two_writes_to_one_node_are_a_conflict(alice: Client, bob: Client) -> None:
    one, other = alice.begin(), bob.begin()
    with within(alice, one):
        alice.write("/a", "alice")
    with within(bob, other):
        bob.write("/a", "bob")
    alice.end(one)
    with Refusal("EAGAIN"):
        bob.end(other)
    assert bob.read("/a") == b"alice"


def test_the_removal_of_what_was_read_is_a_conflict(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.read("/a")
    bob.rm("/a")
    with Refusal("EAGAIN"):
        alice.end(transaction)


def test_that_something_was_missing_is_read_too(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction), Refusal("ENOENT"):
        alice.read("/missing")
    bob.write("/missing")
    with Refusal("EAGAIN"):
        alice.end(transaction)


def test_another_value_and_back_is_still_a_conflict(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.read("/a")
    bob.write("/a", "1")
    bob.write("/a", "0")
    with Refusal("EAGAIN"):
        alice.end(transaction)


def test_changes_elsewhere_are_no_conflict(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/a", "alice")
    bob.write("/b", "bob")
    alice.end(transaction)
    assert (bob.read("/a"), bob.read("/b")) == (b"alice", b"bob")


def test_two_that_make_children_of_one_node_conflict(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/a/alice")
    bob.write("/a/bob")
    with Refusal("EAGAIN"):
        alice.end(transaction)
    assert bob.list("/a") == ["bob"]


def test_a_transaction_does_not_see_others_changes_to_what_it_has_read(
    alice: Client, bob: Client
) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.read("/a")
        bob.write("/a", "bob")
        assert alice.read("/a") == b"0"


def test_a_refusal_lets_a_transaction_see_the_nodes_parent(xenstored: Xenstored) -> None:
    dom0, guest = Client(xenstored), Client(xenstored, 1)
    dom0.write("/dir/secret")
    transaction = guest.begin()
    with within(guest, transaction), Refusal("EACCES"):
        guest.read("/dir/secret")
    dom0.write("/dir", "changed")
    with Refusal("EAGAIN"):
        guest.end(transaction)


def test_a_spoilt_transaction_may_see_what_does_not_fit_and_never_commits(
    alice: Client, bob: Client
) -> None:
    bob.write("/c/d")
    bob.write("/e/f")
    spoilt = [alice.begin() for _ in range(3)]
    for transaction, seen in zip(spoilt, ("/", "/e", "/c/d"), strict=True):
        with within(alice, transaction):
            alice.list(seen)
    bob.rm("/c")
    bob.rm("/e/f")
    bob.write("/late")
    with within(alice, spoilt[0]), Refusal("EIO"):
        alice.rm("/late")  # it is there, though not listed
    with within(alice, spoilt[1]), Refusal("EIO"):
        alice.rm("/e")  # a child is listed, but gone
    with within(alice, spoilt[2]), Refusal("EINVAL"):
        alice.rm("/c/d")  # it was there, its parent is gone
    for transaction in spoilt:
        with Refusal("EAGAIN"):
            alice.end(transaction)


def test_watches_fire_at_the_commit_in_the_order_of_the_first_look(
    alice: Client, bob: Client
) -> None:
    bob.write("/c/d")
    bob.watch("/")
    assert bob.events
    transaction = alice.begin()
    with within(alice, transaction):
        alice.read("/b")
        alice.write("/a", "1")
        alice.write("/b", "2")
        alice.rm("/c")
    assert bob.events == []
    alice.end(transaction)
    assert bob.events == [("/b", "t"), ("/a", "t"), ("/c", "t")]


def test_a_change_is_told_above_although_the_node_went_with_its_parent_later(
    alice: Client, bob: Client
) -> None:
    bob.write("/c/d")
    bob.watch("/")
    assert bob.events
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/c/d", "1")
        alice.rm("/c")
    alice.end(transaction)
    assert bob.events == [("/c/d", "t"), ("/c", "t")]


def test_watches_do_not_fire_for_an_abort_or_a_conflict(alice: Client, bob: Client) -> None:
    aborted, conflicting = alice.begin(), alice.begin()
    for transaction in (aborted, conflicting):
        with within(alice, transaction):
            alice.write("/a", "1")
    bob.write("/a", "2")
    bob.watch("/a")
    assert bob.events
    alice.end(aborted, "F")
    with Refusal("EAGAIN"):
        alice.end(conflicting)
    assert bob.events == []


def test_what_was_made_and_removed_within_is_not_told(alice: Client, bob: Client) -> None:
    bob.watch("/brief")
    assert bob.events
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/brief")
        alice.rm("/brief")
    alice.end(transaction)
    assert bob.events == []


def test_a_watch_set_within_a_transaction_is_set_at_once(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.watch("/a")
    assert alice.events == [("/a", "t")]
    alice.end(transaction, "F")
    bob.write("/a")
    assert alice.events == [("/a", "t")]


def test_a_transaction_belongs_to_its_connection(alice: Client, bob: Client) -> None:
    transaction = alice.begin()
    with within(bob, transaction), Refusal("ENOENT"):
        bob.read("/a")


def test_an_ended_transaction_is_gone(alice: Client) -> None:
    transaction = alice.begin()
    alice.end(transaction)
    with Refusal("ENOENT"):
        alice.end(transaction)
    with within(alice, transaction), Refusal("ENOENT"):
        alice.write("/a", "1")


def test_transactions_do_not_nest(alice: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction), Refusal("EBUSY"):
        alice.ask(MessageType.TRANSACTION_START, "")


def test_an_end_that_says_neither_leaves_the_transaction_open(alice: Client) -> None:
    transaction = alice.begin()
    with within(alice, transaction):
        alice.write("/a", "1")
    with Refusal("EINVAL"):
        alice.end(transaction, "maybe")
    alice.end(transaction)
    assert alice.read("/a") == b"1"
