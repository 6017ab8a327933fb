"""What Xen's xenstored in C does, to the letter, and the simulated one with it. oxenstored keeps to
the protocol in other ways here, or has other limits: these rules are not for it.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress

from rule import PATIENCE, guest_rule, refusal, rule, scratch
from store_client import AT_ONCE, room

from activations import Domain, Scenario
from activations.abi.event_channel import DOMID_SELF
from activations.abi.xs_wire import MessageType
from activations.store import Store
from activations.store.wire import join

NOBODY = 77
"""A domid that no domain has."""

# Limits


@rule
async def dom0_fills_a_whole_message(xen: Domain) -> None:
    """Path and value have 4096 bytes, many at once."""
    async with scratch(xen) as (store, at):
        paths = [f"{at}/{number}" for number in range(8)]
        room_for = 4096 - len(paths[0]) - 1
        values = {path: path[-1] * room_for for path in paths}
        await asyncio.gather(*(store.write(path, value) for path, value in values.items()))
        assert await asyncio.gather(*map(store.read, values)) == list(values.values())


@guest_rule
async def a_guests_node_has_less_than_2048_bytes(xen: Domain) -> None:
    """32 of them for a header and its owner's permission. A transaction that tried for more can
    only be dropped."""
    store = xen.store
    await store.write("data/x", "x" * 2015)
    error = await refusal(store.write("data/x", "x" * 2016))
    assert error.errno == errno.ENOSPC, error

    async def commit() -> None:
        async with store.transaction() as t:
            error = await refusal(t.write("data/x", "x" * 2016))
            assert error.errno == errno.ENOSPC, error
            await t.write("data/y", "1")

    error = await refusal(commit())
    assert (error.errno, error.kind) == (errno.ENOMEM, MessageType.TRANSACTION_END)
    assert not await store.exists("data/y")
    assert await store.read("data/x") == "x" * 2015


@guest_rule
async def a_guest_owns_a_thousand_nodes(xen: Domain) -> None:
    """One less after a transaction that made any: what it makes is counted at its end alone."""
    store = xen.store
    made = 0

    async def fill() -> None:
        nonlocal made
        while True:
            numbers = range(made, made + AT_ONCE)
            writes = (store.write(f"data/{each // 100}/{each % 100}", "") for each in numbers)
            ends = await asyncio.gather(*writes, return_exceptions=True)
            made += ends.count(None)
            for end in ends:
                if end is not None:
                    raise end

    error = await refusal(fill())
    assert error.errno == errno.ENOSPC, error
    assert 900 < made < 1000

    async def exchange(fewer: int) -> None:
        async with store.transaction() as t:
            for number in range(fewer):
                await t.rm(f"data/0/{number}")
            await t.write("data/0/new", "")

    error = await refusal(exchange(fewer=0))
    assert (error.errno, error.kind) == (errno.ENOSPC, MessageType.WRITE)
    error = await refusal(exchange(fewer=1))
    assert (error.errno, error.kind) == (errno.ENOSPC, MessageType.WRITE)
    await store.rm("data/0/0")

    error = await refusal(exchange(fewer=0))
    assert (error.errno, error.kind) == (errno.ENOSPC, MessageType.TRANSACTION_END)
    await store.rm("data/0/1")
    await exchange(fewer=0)
    await store.rm("data/0")

    async with store.transaction() as t:
        await asyncio.gather(*(t.write(f"data/new/{number}", "") for number in range(110)))
        await t.rm("data/new")
    await asyncio.gather(*(store.rm(f"data/{number}") for number in range(10)))


@guest_rule
async def a_guests_transaction_sees_1024_nodes(xen: Domain) -> None:
    """Missing ones too. After one more it can only be dropped."""
    store = xen.store

    async def look_around() -> None:
        async with store.transaction() as t:
            await t.exists("data")
            for first in range(0, 1023, AT_ONCE):
                numbers = range(first, min(first + AT_ONCE, 1023))
                found = await asyncio.gather(*(t.exists(f"data/{each}") for each in numbers))
                assert not any(found)
            error = await refusal(t.exists("data/one-more"))
            assert error.errno == errno.ENOSPC, error
            assert not await t.exists("data/0")

    error = await refusal(look_around())
    assert (error.errno, error.kind) == (errno.ENOMEM, MessageType.TRANSACTION_END)


@guest_rule
async def a_guest_has_eleven_transactions(xen: Domain) -> None:
    """Its limit is ten: it may be reached before one more is refused."""
    assert await room(xen.store.transaction) == 11


# Permissions


@rule
async def a_node_is_not_given_to_a_domain_that_is_not_there(xen: Domain) -> None:
    """But others that are not there may be named."""
    async with scratch(xen) as (store, at):
        error = await refusal(store.set_perms(at, f"n{NOBODY}"))
        assert error.errno == errno.ENOENT, error
        await store.set_perms(at, "n0", f"r{NOBODY}")
        assert list(map(str, await store.get_perms(at))) == ["n0", f"r{NOBODY}"]


@rule
async def special_watches_have_permissions_that_can_be_set_but_not_read(xen: Domain) -> None:
    """Nobody is told of their change; there are two."""
    async with scratch(xen) as (store, at), store.watch("@releaseDomain") as events:
        assert await anext(events) == "@releaseDomain"
        await store.set_perms("@releaseDomain", "n0", f"r{NOBODY}")
        await store.set_perms("@releaseDomain", "n0")
        async with store.watch(at) as last:
            await anext(last)  # by now all reports have come
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                raise AssertionError(f"told of {await anext(events)}")
        error = await refusal(store.get_perms("@releaseDomain"))
        assert error.errno == errno.EINVAL, error
        error = await refusal(store.set_perms("@other", "n0"))
        assert error.errno == errno.EINVAL, error


removal = Scenario("who_could_see_a_node_or_its_parent_hears_of_its_removal")
"""In a transaction, its parent does not count: that may be gone by then as well."""

PLACE = "/tool/activations-removal"


@removal.domain("dom0")
async def remover(xen: Domain) -> None:
    store = xen.store
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}"

    async def make() -> None:
        await store.write(f"{PLACE}/open/closed", "1")
        await store.set_perms(f"{PLACE}/open", "n0", f"r{guest}")
        await store.set_perms(f"{PLACE}/open/closed", "n0")

    async with asyncio.timeout(PATIENCE):
        await make()
        await store.write(f"{home}/data/made", "1")
        await store.wait_for(f"{home}/data/watches", lambda turn: turn == "2")
        await store.rm(f"{PLACE}/open")
        await make()
        await store.write(f"{home}/data/made", "2")
        await store.wait_for(f"{home}/data/watches", lambda turn: turn == "3")
        async with store.transaction() as t:
            await t.rm(f"{PLACE}/open")
        await store.write(f"{home}/data/made", "3")
        await store.wait_for(f"{home}/data/done")
        await store.rm(PLACE)
        await store.write(f"{home}/data/made", "all")


@removal.domain("guest")
async def bystander(xen: Domain) -> None:
    store = xen.store
    await store.wait_for("data/made")
    assert await heard_until(store, "2") == [f"{PLACE}/open/closed"]
    assert await heard_until(store, "3") == []
    await store.write("data/done", "1")
    await store.wait_for("data/made", lambda turn: turn == "all")  # who ends takes its nodes along


async def heard_until(store: Store, turn: str) -> list[str]:
    """What this guest is told of the closed node until dom0 has made this turn's."""
    heard = []
    async with store.watch(f"{PLACE}/open/closed") as events:
        await anext(events)
        await store.write("data/watches", turn)
        await store.wait_for("data/made", lambda value: value == turn)
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                heard.append(await anext(events))
    return heard


# Requests that make no sense


@rule
async def arguments_that_make_no_sense_are_einval(xen: Domain) -> None:
    """A missing NUL, too few strings, or too many, a permission or a verdict that is none."""
    for kind, payload in (
        (MessageType.WRITE, b"/a"),
        (MessageType.RM, join("/")),
        (MessageType.WATCH, join("/a")),
        (MessageType.WATCH, join("/a", "token", "depth")),
        (MessageType.UNWATCH, join("/a")),
        (MessageType.SET_PERMS, b""),
        (MessageType.SET_PERMS, join("/tool")),
        (MessageType.SET_PERMS, join("/tool", "x1")),
        (MessageType.DIRECTORY_PART, join("/tool")),
        (MessageType.TRANSACTION_END, join("X")),
        (MessageType.INTRODUCE, join("1", "1")),
        (MessageType.INTRODUCE, join("1", "1", "0")),
        (MessageType.RELEASE, b""),
        (MessageType.RELEASE, join("0")),
        (MessageType.RESUME, join("0")),
        (MessageType.SET_TARGET, join("1")),
        (MessageType.GET_DOMAIN_PATH, b""),
        (MessageType.IS_DOMAIN_INTRODUCED, join("0", "0")),
        (MessageType.CONTROL, join("nonsense")),
    ):
        error = await refusal(xen.store.request(kind, payload))
        assert error.errno == errno.EINVAL, (kind, payload, error)


@rule
async def a_refusal_has_the_name_that_fits(xen: Domain) -> None:
    """ENOENT for what is not there, EEXIST for a watch like another, ENOSYS for no request."""
    store, nobody = xen.store, str(NOBODY)
    watch = join("/tool", "token")
    await store.request(MessageType.WATCH, watch)
    for name, kind, payload in (
        (errno.EEXIST, MessageType.WATCH, watch),
        (errno.ENOENT, MessageType.UNWATCH, join("/tool", "other")),
        (errno.ENOENT, MessageType.RELEASE, join(nobody)),
        (errno.ENOENT, MessageType.RESUME, join(nobody)),
        (errno.ENOENT, MessageType.SET_TARGET, join(nobody, "0")),
        (errno.ENOENT, MessageType.TRANSACTION_END, join("T")),
        (errno.ENOSYS, MessageType.WATCH_EVENT, watch),
    ):
        error = await refusal(store.request(kind, payload))
        assert error.errno == name, (kind, payload, error)
    error = await refusal(store.request(MessageType.READ, join("/tool"), tx_id=NOBODY))
    assert error.errno == errno.ENOENT, error
    assert await store.request(MessageType.IS_DOMAIN_INTRODUCED, join("0")) == join("T")
    assert await store.request(MessageType.IS_DOMAIN_INTRODUCED, join(nobody)) == join("F")
    myself = str(DOMID_SELF)
    assert await store.request(MessageType.IS_DOMAIN_INTRODUCED, join(myself)) == join("T")
