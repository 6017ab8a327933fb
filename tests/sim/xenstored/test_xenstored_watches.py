"""Watches: who is told what, when, and in which order."""

from __future__ import annotations

import pytest
from support.xenstored_client import Client, Refusal

from activations.abi.xs_wire import MessageType
from xen_sim.xenstored import Xenstored, toolstack


@pytest.fixture
def xenstored() -> Xenstored:
    server = Xenstored()
    toolstack.introduce_dom0(server)
    toolstack.introduce(server, 1, "guest")
    return server


@pytest.fixture
def dom0(xenstored: Xenstored) -> Client:
    return Client(xenstored)


@pytest.fixture
def watcher(xenstored: Xenstored) -> Client:
    return Client(xenstored)


@pytest.fixture
def guest(xenstored: Xenstored) -> Client:
    return Client(xenstored, 1)


def test_a_watch_fires_once_when_it_is_set_after_its_reply(watcher: Client) -> None:
    watcher.watch("/nothing/there", "tok")
    assert [message.kind for message in watcher.log] == [
        MessageType.WATCH,
        MessageType.WATCH_EVENT,
    ]
    assert watcher.events == [("/nothing/there", "tok")]


def test_a_change_is_told_before_its_request_is_answered(watcher: Client) -> None:
    watcher.watch("/a")
    watcher.log.clear()
    watcher.write("/a")
    assert [message.kind for message in watcher.log] == [
        MessageType.WATCH_EVENT,
        MessageType.WRITE,
    ]


def test_a_watch_hears_of_its_node_and_all_below_it(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a")
    assert watcher.events
    dom0.write("/a/b/c")
    dom0.write("/a")
    dom0.mkdir("/a/d")
    dom0.set_perms("/a/d", "n0", "r1")
    dom0.write("/ab")
    dom0.write("/b")
    assert watcher.events == [("/a/b/c", "t"), ("/a", "t"), ("/a/d", "t")], (
        "made and given permissions: the second event was still waiting to be taken"
    )


def test_the_root_hears_of_everything(dom0: Client, watcher: Client) -> None:
    watcher.watch("/")
    assert watcher.events
    dom0.write("/a/b")
    assert watcher.events == [("/a/b", "t")]


def test_mkdir_of_what_exists_is_no_change(dom0: Client, watcher: Client) -> None:
    dom0.write("/a")
    watcher.watch("/a")
    assert watcher.events
    dom0.mkdir("/a")
    assert watcher.events == []


def test_removal_is_told_at_each_watched_node_and_above_once(dom0: Client, watcher: Client) -> None:
    for path in ("/a/b/c", "/a/b/d/e"):
        dom0.write(path)
    for path in ("/a", "/a/b", "/a/b/c", "/a/b/d/e", "/a/b/d/missing"):
        watcher.watch(path, path)
    assert watcher.events
    dom0.rm("/a/b")
    assert watcher.events == [
        ("/a/b/c", "/a/b/c"),
        ("/a/b/d/e", "/a/b/d/e"),
        ("/a/b", "/a"),
        ("/a/b", "/a/b"),
    ]


def test_a_relative_watch_reports_relative_paths(dom0: Client, guest: Client) -> None:
    guest.watch("data")
    assert guest.events == [("data", "t")]
    dom0.write("/local/domain/1/data/x")
    assert guest.events == [("data/x", "t")]
    guest.watch("/local/domain/1/data", "absolute")
    assert guest.events == [("/local/domain/1/data", "absolute")]


def test_the_same_path_may_be_watched_with_several_tokens(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a", "1")
    watcher.watch("/a", "2")
    assert watcher.events
    dom0.write("/a")
    assert watcher.events == [("/a", "1"), ("/a", "2")]
    with Refusal("EEXIST"):
        watcher.watch("/a", "1")


def test_after_unwatch_nothing_comes(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a", "1")
    watcher.watch("/a", "2")
    watcher.unwatch("/a", "1")
    assert watcher.events
    dom0.write("/a")
    assert watcher.events == [("/a", "2")]
    with Refusal("ENOENT"):
        watcher.unwatch("/a", "1")


def test_reset_watches_drops_them_all_and_the_transactions(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a")
    watcher.watch("@releaseDomain")
    transaction = watcher.begin()
    watcher.ask(MessageType.RESET_WATCHES, "")
    assert watcher.events
    dom0.write("/a")
    assert watcher.events == []
    with Refusal("ENOENT"):
        watcher.end(transaction)


def test_an_event_that_still_waits_is_not_told_twice(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a")
    assert watcher.events
    for value in "123":
        dom0.write("/a", value)
    assert watcher.events == [("/a", "t")]
    dom0.write("/a", "4")
    assert watcher.events == [("/a", "t")]


def test_an_event_that_does_not_fit_is_dropped(dom0: Client, watcher: Client) -> None:
    watcher.watch("/", "x" * 4000)
    assert watcher.events
    dom0.write("/" + "a" * 200)
    assert watcher.events == []


def test_connections_are_told_in_the_order_they_came(xenstored: Xenstored, dom0: Client) -> None:
    order: list[int] = []
    clients = [Client(xenstored) for _ in range(3)]
    for number in (2, 0, 1):
        clients[number].watch("/a")
    for number, client in enumerate(clients):
        client.collect()
        client.connection.on_turn = lambda number=number: order.append(number)
    dom0.write("/a")
    assert order == [0, 1, 2]


# Who may hear


def test_a_guest_hears_nothing_of_what_it_cannot_read(dom0: Client, guest: Client) -> None:
    guest.watch("/secret")
    assert guest.events == [("/secret", "t")], "the first event always comes"
    dom0.write("/secret/x")
    assert guest.events == []


def test_a_guest_hears_of_what_it_may_read_in_a_closed_place(dom0: Client, guest: Client) -> None:
    guest.watch("/secret")
    dom0.write("/secret/x")
    assert guest.events
    dom0.set_perms("/secret/x", "n0", "r1")
    assert guest.events == [("/secret/x", "t")]
    dom0.set_perms("/secret/x", "n0")
    assert guest.events == [("/secret/x", "t")], "that it was shut out, too"
    dom0.write("/secret/x", "2")
    assert guest.events == []


def test_a_guest_hears_of_the_removal_of_what_it_could_read(dom0: Client, guest: Client) -> None:
    dom0.write("/secret/x/y")
    dom0.set_perms("/secret/x", "n0", "r1")
    guest.watch("/secret/x")
    assert guest.events
    dom0.rm("/secret/x")
    assert guest.events == [("/secret/x", "t")]


# Domains that come and go


def test_dom0_hears_of_domains_that_come_and_go(xenstored: Xenstored, watcher: Client) -> None:
    watcher.watch("@introduceDomain", "in")
    watcher.watch("@releaseDomain", "out")
    assert watcher.events
    toolstack.introduce(xenstored, 2, "other")
    assert watcher.events == [("@introduceDomain", "in")]
    toolstack.release(xenstored, 2)
    assert watcher.events == [("@releaseDomain", "out")]


def test_shutdown_is_told_once_until_the_domain_resumes(
    xenstored: Xenstored, dom0: Client, watcher: Client
) -> None:
    watcher.watch("@releaseDomain")
    assert watcher.events
    xenstored.shut_down(1)
    xenstored.shut_down(1)
    assert watcher.events == [("@releaseDomain", "t")]
    dom0.ask(MessageType.RESUME, "1")
    xenstored.shut_down(1)
    assert watcher.events == [("@releaseDomain", "t")]


def test_a_guest_hears_of_other_domains_only_where_dom0_lets_it(
    xenstored: Xenstored, dom0: Client, guest: Client
) -> None:
    guest.watch("@releaseDomain")
    assert guest.events
    xenstored.shut_down(1)
    assert guest.events == []
    dom0.set_perms("@releaseDomain", "n0", "r1")
    dom0.ask(MessageType.RESUME, "1")
    xenstored.shut_down(1)
    assert guest.events == [("@releaseDomain", "t")]


def test_a_closed_connection_takes_its_watches_along(dom0: Client, watcher: Client) -> None:
    watcher.watch("/a")
    watcher.connection.close()
    dom0.write("/a")
    assert watcher.connection.take_output() == b""
