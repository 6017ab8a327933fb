"""Guests: what each may do, how much of it, and what is left when it goes."""

from __future__ import annotations

import pytest
from support.xenstored_client import Client, Refusal

from activations.abi.xs_wire import MessageType
from xen_sim.xen.hypervisor import Hypervisor
from xen_sim.xenstored import Quota, Xenstored, toolstack

HOME = "/local/domain/1"


@pytest.fixture
def xenstored() -> Xenstored:
    server = Xenstored()
    toolstack.introduce_dom0(server)
    for domid in (1, 2):
        toolstack.introduce(server, domid, f"guest{domid}")
    return server


@pytest.fixture
def dom0(xenstored: Xenstored) -> Client:
    return Client(xenstored)


@pytest.fixture
def guest(xenstored: Xenstored) -> Client:
    return Client(xenstored, 1)


@pytest.fixture
def other(xenstored: Xenstored) -> Client:
    return Client(xenstored, 2)


# Home


def test_a_guest_finds_in_its_home_what_libxl_puts_there(guest: Client) -> None:
    assert guest.read("name") == b"guest1"
    assert guest.read("domid") == b"1"
    assert guest.read("memory/target") == b"65536"
    assert guest.read("cpu/0/availability") == b"online"
    uuid = guest.read("vm").decode()
    assert guest.read(f"{uuid}/name") == b"guest1"


def test_a_guest_reads_its_home_but_does_not_write_it(guest: Client) -> None:
    for path in ("name", "new", "device/vif", "control/new"):
        with Refusal("EACCES"):
            guest.write(path)
    with Refusal("EACCES"):
        guest.rm("name")


@pytest.mark.parametrize("path", toolstack.GUEST_OWNS)
def test_a_guest_owns_the_places_made_for_it(guest: Client, path: str) -> None:
    guest.write(HOME + path, "mine")
    guest.write(f"{HOME}{path}/below", "mine too")
    assert guest.perms(f"{HOME}{path}/below") == ["n1"]


def test_guests_do_not_see_each_other(other: Client) -> None:
    for path in (HOME, f"{HOME}/name", f"{HOME}/data/x"):
        with Refusal("EACCES"):
            other.read(path)


def test_a_home_appears_all_at_once(xenstored: Xenstored, dom0: Client) -> None:
    dom0.watch("/local/domain/3/name")
    assert dom0.events
    looks: list[bool] = []
    dom0.connection.on_turn = lambda: looks.append(
        xenstored.database.get("/local/domain/3/error") is not None
    )
    toolstack.introduce(xenstored, 3, "late", extra={"description": "a third"})
    assert looks == [True]
    assert dom0.events == [("/local/domain/3/name", "t")]
    assert dom0.read("/local/domain/3/description") == b"a third"


# Permissions


def test_what_a_guest_makes_is_its_own_and_otherwise_as_its_parent(
    dom0: Client, guest: Client
) -> None:
    dom0.mkdir("/shared")
    dom0.set_perms("/shared", "r0", "b1", "n2")
    guest.write("/shared/a/b", "1")
    assert guest.perms("/shared/a") == ["r1", "b1", "n2"]
    assert guest.perms("/shared/a/b") == ["r1", "b1", "n2"]


def test_what_dom0_makes_belongs_to_the_owner_of_its_parent(dom0: Client) -> None:
    dom0.write(f"{HOME}/data/from-dom0")
    assert dom0.perms(f"{HOME}/data/from-dom0") == ["n1"]


@pytest.mark.parametrize(
    ("perms", "reads", "writes"),
    [
        (["n0"], False, False),
        (["r0"], True, False),
        (["w0"], False, True),
        (["b0"], True, True),
        (["b0", "n1"], False, False),
        (["n0", "r1"], True, False),
        (["n0", "w1"], False, True),
        (["n0", "b1"], True, True),
        (["n0", "b2"], False, False),
        (["n0", "r1", "b1"], True, False),
        (["n1"], True, True),
    ],
)
def test_the_first_permission_that_names_a_domain_counts_else_the_owners(
    dom0: Client, guest: Client, perms: list[str], reads: bool, writes: bool
) -> None:
    dom0.write("/node", "x")
    dom0.set_perms("/node", *perms)
    for allowed, attempt in ((reads, guest.read), (writes, guest.write)):
        if allowed:
            attempt("/node")
        else:
            with Refusal("EACCES"):
                attempt("/node")


def test_what_is_missing_is_enoent_only_to_who_could_have_it(dom0: Client, guest: Client) -> None:
    with Refusal("EACCES"):
        guest.read("/tool/missing")
    dom0.mkdir("/open")
    dom0.set_perms("/open", "r0")
    with Refusal("ENOENT"):
        guest.read("/open/missing/below")
    with Refusal("EACCES"):
        guest.rm("/open/missing")


def test_only_the_owner_and_dom0_change_permissions(
    dom0: Client, guest: Client, other: Client
) -> None:
    guest.write("data/x")
    guest.set_perms("data/x", "n1", "b2")
    other.write(f"{HOME}/data/x", "2")
    with Refusal("EACCES"):
        other.set_perms(f"{HOME}/data/x", "b1")
    dom0.set_perms(f"{HOME}/data/x", "n2")
    assert other.read(f"{HOME}/data/x") == b"2"


def test_a_guest_cannot_give_a_node_away(guest: Client) -> None:
    guest.write("data/x")
    with Refusal("EPERM"):
        guest.set_perms("data/x", "n2")


def test_a_target_lets_a_domain_act_for_another(dom0: Client, other: Client) -> None:
    dom0.ask(MessageType.SET_TARGET, "2", "1")
    assert other.read(f"{HOME}/name") == b"guest1"
    other.write(f"{HOME}/data/x")


def test_managing_domains_is_for_dom0(guest: Client) -> None:
    for kind in (
        MessageType.INTRODUCE,
        MessageType.RELEASE,
        MessageType.RESUME,
        MessageType.SET_TARGET,
        MessageType.IS_DOMAIN_INTRODUCED,
        MessageType.CONTROL,
    ):
        with Refusal("EACCES"):
            guest.ask(kind, "1")


# Quotas


@pytest.fixture
def tight() -> Xenstored:
    server = Xenstored(Quota(nodes=20, watches=3))
    toolstack.introduce(server, 1, "guest1")
    return server


def test_a_guest_owns_no_more_nodes_than_its_quota(tight: Xenstored) -> None:
    guest, dom0 = Client(tight, 1), Client(tight)
    room = 20 - tight.database.owned(1)
    for number in range(room):
        guest.write(f"data/{number}")
    with Refusal("ENOSPC"):
        guest.write("data/more")
    with Refusal("ENOENT"):
        guest.read("data/more")
    guest.write("data/0", "still changed")
    guest.rm("data/1")
    guest.write("data/more")
    dom0.write(f"{HOME}/data/from-dom0")  # dom0 has no quota


def test_missing_parents_count_and_are_not_left_behind(tight: Xenstored) -> None:
    guest = Client(tight, 1)
    with Refusal("ENOSPC"):
        guest.write("data/" + "/".join("x" * 20))
    assert guest.list("data") == []


def test_a_guest_sets_so_many_watches_and_no_more(tight: Xenstored) -> None:
    guest = Client(tight, 1)
    for token in "1234":
        guest.watch("data", token)
    with Refusal("E2BIG"):
        guest.watch("data", "5")
    guest.unwatch("data", "1")
    guest.watch("data", "5")


def test_a_guests_node_has_five_permissions_at_most(guest: Client) -> None:
    guest.write("data/x")
    guest.set_perms("data/x", "n1", "r2", "r3", "r4", "r5")
    with Refusal("ENOSPC"):
        guest.set_perms("data/x", "n1", "r2", "r3", "r4", "r5", "r6")


# Coming and going


def test_a_released_domain_leaves_nothing_behind(xenstored: Xenstored, dom0: Client) -> None:
    before = sorted(xenstored.database.paths())
    toolstack.introduce(xenstored, 3, "brief")
    brief = Client(xenstored, 3)
    dom0.mkdir("/meeting")
    dom0.set_perms("/meeting", "n0", "b3")
    brief.write("/meeting/mine/below")
    brief.watch("data")
    brief.begin()
    toolstack.release(xenstored, 3)
    assert dom0.list("/meeting") == []
    dom0.rm("/meeting")
    assert sorted(xenstored.database.paths()) == before
    assert xenstored.database.owned(3) == 0
    assert brief.connection.broken


def test_a_store_that_is_first_asked_late_has_heard_all_that_happened() -> None:
    def store(*, late: bool) -> Xenstored:
        xen = Hypervisor()
        assert late or xen.xenstored
        xen.create("dom0")
        first = xen.create("first")
        xen.create("second", vcpus=2)
        xen.destroy(first)
        xen.create("third")
        return xen.xenstored

    early, late = store(late=False), store(late=True)
    paths = early.database.paths()
    assert late.database.paths() == paths
    assert [late.database.get(each) for each in paths] == [early.database.get(e) for e in paths]
    assert late.introduced == early.introduced


def test_a_permission_is_for_the_domain_that_had_the_number_when_it_was_set(
    xenstored: Xenstored, dom0: Client
) -> None:
    dom0.write("/early", "1")
    dom0.set_perms("/early", "n0", "r3")
    toolstack.introduce(xenstored, 3, "first")
    dom0.write("/late", "1")
    dom0.set_perms("/late", "n0", "r3")
    dom0.write("/early", "2")
    dom0.write("/early/below", "2")
    first = Client(xenstored, 3)
    assert first.read("/late") == b"1"
    for path in ("/early", "/early/below"):
        with Refusal("EACCES"):
            first.read(path)

    toolstack.release(xenstored, 3)
    toolstack.introduce(xenstored, 3, "second")
    second = Client(xenstored, 3)
    with Refusal("EACCES"):
        second.read("/late")
    dom0.write("/late", "2")
    with Refusal("EACCES"):
        second.read("/late")
    assert dom0.perms("/late") == ["n0", "r3"], "it is still shown"
    dom0.set_perms("/late", "n0", "r3")
    assert second.read("/late") == b"2"


def test_who_may_hear_of_domains_is_as_passing_as_they_are(
    xenstored: Xenstored, dom0: Client
) -> None:
    toolstack.introduce(xenstored, 3, "first")
    dom0.set_perms("@releaseDomain", "n3", "r3")
    toolstack.release(xenstored, 3)
    toolstack.introduce(xenstored, 3, "second")
    second = Client(xenstored, 3)
    second.watch("@releaseDomain")
    assert second.events
    xenstored.shut_down(1)
    assert second.events == []
    with Refusal("EACCES"):
        second.set_perms("@releaseDomain", "n3")


def test_the_removal_of_a_home_is_told(xenstored: Xenstored, dom0: Client) -> None:
    dom0.watch("/local/domain/1/data")
    dom0.watch("@releaseDomain")
    assert dom0.events
    toolstack.release(xenstored, 1)
    assert dom0.events == [("/local/domain/1/data", "t"), ("@releaseDomain", "t")]


def test_introduce_and_release_go_by_message_too(xenstored: Xenstored, dom0: Client) -> None:
    told: list[tuple[int, str, int]] = []
    xenstored.on_introduce = lambda domid, gfn, port: told.append((domid, gfn, port))
    assert dom0.ask(MessageType.IS_DOMAIN_INTRODUCED, "7") == b"F\0"
    dom0.ask(MessageType.INTRODUCE, "7", "-1", "5")
    assert told == [(7, "-1", 5)]
    assert dom0.ask(MessageType.IS_DOMAIN_INTRODUCED, "7") == b"T\0"
    dom0.ask(MessageType.RELEASE, "7")
    assert dom0.ask(MessageType.IS_DOMAIN_INTRODUCED, "7") == b"F\0"
    with Refusal("ENOENT"):
        dom0.ask(MessageType.RELEASE, "7")
    with Refusal("EINVAL"):
        dom0.ask(MessageType.RELEASE, "0")


def test_introducing_a_domain_again_starts_its_connection_afresh(
    xenstored: Xenstored, dom0: Client, guest: Client
) -> None:
    guest.watch("data")
    assert guest.events
    dom0.ask(MessageType.INTRODUCE, "1", "1", "1")
    guest.write("data")
    assert guest.events == []


def test_a_domains_path_is_told_whether_or_not_there_is_one(guest: Client) -> None:
    assert guest.ask(MessageType.GET_DOMAIN_PATH, "007") == b"/local/domain/7\0"
