"""What a domain may expect of xenstore, on every Xen.

Each rule is a scenario whose halves assert it; the test suite runs them on the simulator, and the
same ones on a real xenstored. `activations run tests/rules/store.py::NAME` runs one by hand.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from functools import partial

from rule import PATIENCE, refusal, rule, scratch

from activations import Domain, Scenario
from activations.store import Access, Permission, Transaction

# Nodes


@rule
async def a_value_is_read_as_it_was_written(xen: Domain) -> None:
    """Text, numbers in decimal, and bytes with NULs come back whole."""
    async with scratch(xen) as (store, at):
        for value, text in (("ready", "ready"), ("größer", "größer"), (4096, "4096"), ("", "")):
            await store.write(f"{at}/x", value)
            assert await store.read(f"{at}/x") == text
        await store.write(f"{at}/x", b"\0\xff\0")
        assert await store.read_bytes(f"{at}/x") == b"\0\xff\0"


@rule
async def writing_makes_the_missing_parents(xen: Domain) -> None:
    """They have empty values, and each lists the next."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/a/b/c", "1")
        assert await store.read(f"{at}/a") == ""
        assert await store.list(f"{at}/a") == ["b"]
        assert await store.list(f"{at}/a/b/c") == []


@rule
async def mkdir_leaves_what_exists_as_it_is(xen: Domain) -> None:
    """Its value stays."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/x", "1")
        await store.mkdir(f"{at}/x")
        assert await store.read(f"{at}/x") == "1"


@rule
async def rm_takes_all_that_is_below_and_forgives_what_is_missing(xen: Domain) -> None:
    """A missing node is no error unless its parent is missing too."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/a/b/c", "1")
        await store.rm(f"{at}/a")
        assert not await store.exists(f"{at}/a/b/c")
        assert not await store.exists(f"{at}/a")
        await store.rm(f"{at}/a")
        error = await refusal(store.rm(f"{at}/a/b"))
        assert error.errno == errno.ENOENT, error


@rule
async def an_error_names_the_operation_and_the_path(xen: Domain) -> None:
    """So that a log line is enough to know what went wrong."""
    error = await refusal(xen.store.read("/tool/activations-missing"))
    assert error.errno == errno.ENOENT
    assert str(error) == "XS_READ /tool/activations-missing: No such file or directory"
    error = await refusal(xen.store.write("/no path", "x"))
    assert error.errno == errno.EINVAL
    assert str(error) == "XS_WRITE /no path: Invalid argument"


@rule
async def what_is_no_path_is_refused(xen: Domain) -> None:
    """Letters, digits and `-/_@` make one; no slash doubles, or ends it."""
    for path in ("", "//", "/a/", "/a//b", "/a b", "/a.b", "/ä", "/a\n", "a/"):
        for attempt in (xen.store.read, partial(xen.store.write, value=""), xen.store.rm):
            error = await refusal(attempt(path))
            assert error.errno == errno.EINVAL, (path, error)
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/AZaz09-_@/x", "1")
        assert await store.read(f"{at}/AZaz09-_@/x") == "1"


@rule
async def a_relative_path_begins_at_the_domains_home(xen: Domain) -> None:
    """`/local/domain/0` for dom0."""
    home = await xen.store.get_domain_path(xen.domid)
    assert home == "/local/domain/0"
    await xen.store.write("activations-rules", "1")
    try:
        assert await xen.store.read(f"{home}/activations-rules") == "1"
    finally:
        await xen.store.rm("activations-rules")


@rule
async def a_listing_of_any_length_comes_whole(xen: Domain) -> None:
    """One message holds 4096 bytes; this takes three. Within a transaction, too."""
    names = sorted(f"a-name-of-some-length-{number}" for number in range(400))
    async with scratch(xen) as (store, at):
        async with store.transaction() as t:
            for name in names:
                await t.mkdir(f"{at}/{name}")
            assert sorted(await t.list(at)) == names
        assert sorted(await store.list(at)) == names


@rule
async def permissions_are_read_as_they_were_set(xen: Domain) -> None:
    """The owner's first, the others in the order given."""
    async with scratch(xen) as (store, at):
        await store.set_perms(at, "n0", "r1", "w2", Permission(3, Access.READ | Access.WRITE))
        assert list(map(str, await store.get_perms(at))) == ["n0", "r1", "w2", "b3"]
        await store.write(f"{at}/x", "1")
        assert list(map(str, await store.get_perms(f"{at}/x"))) == ["n0", "r1", "w2", "b3"], (
            "a new node takes its parent's"
        )


@rule
async def many_requests_may_be_under_way(xen: Domain) -> None:
    """Each task gets its own answer."""
    async with scratch(xen) as (store, at):

        async def one(number: int) -> None:
            await store.write(f"{at}/{number}", number)
            assert await store.read(f"{at}/{number}") == str(number)

        await asyncio.gather(*map(one, range(40)))
        assert len(await store.list(at)) == 40


# Transactions


@rule
async def a_transaction_is_all_or_nothing(xen: Domain) -> None:
    """Unseen before the commit, there after it; gone if the block is left by an exception."""
    async with scratch(xen) as (store, at):
        async with store.transaction() as t:
            await t.write(f"{at}/a", "1")
            await t.write(f"{at}/b", "2")
            assert await t.read(f"{at}/a") == "1"
            assert not await store.exists(f"{at}/a")
        assert sorted(await store.list(at)) == ["a", "b"]

        with suppress(ZeroDivisionError):
            async with store.transaction() as t:
                await t.rm(f"{at}/a")
                raise ZeroDivisionError
        assert sorted(await store.list(at)) == ["a", "b"]


@rule
async def a_conflict_is_eagain_and_changes_nothing(xen: Domain) -> None:
    """Somebody changed what the transaction had read."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/read", "1")

        async def conflict() -> None:
            async with store.transaction() as t:
                await t.read(f"{at}/read")
                await t.write(f"{at}/written", "1")
                await store.write(f"{at}/read", "2")

        error = await refusal(conflict())
        assert error.errno == errno.EAGAIN, error
        assert not await store.exists(f"{at}/written")


@rule
async def transact_tries_until_nobody_interferes(xen: Domain) -> None:
    """Its function runs again after a conflict, and its result is given back."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/count", "0")
        runs = 0

        async def increment(t: Transaction) -> int:
            nonlocal runs
            runs += 1
            count = int(await t.read(f"{at}/count")) + 1
            if runs == 1:
                await store.write(f"{at}/count", "10")
            await t.write(f"{at}/count", count)
            return count

        assert await store.transact(increment) == 11
        assert runs == 2
        assert await store.read(f"{at}/count") == "11"


# Watches


@rule
async def a_watch_fires_at_once_then_at_every_change_at_or_below(xen: Domain) -> None:
    """With the path that changed; a removal above is told as the watched path."""
    async with scratch(xen) as (store, at), asyncio.timeout(PATIENCE):
        await store.mkdir(f"{at}/a")
        watch = store.watch(f"{at}/a")
        async with watch as events:
            assert await anext(events) == f"{at}/a"
            await store.write(f"{at}/a/b", "1")
            assert await anext(events) == f"{at}/a/b"
            await store.write(f"{at}/elsewhere", "1")
            await store.set_perms(f"{at}/a", "n0", "r1")
            assert await anext(events) == f"{at}/a"
            await store.rm(at)
            assert await anext(events) == f"{at}/a"
            await store.mkdir(at)


@rule
async def a_relative_watch_reports_relative_paths(xen: Domain) -> None:
    """As the watch was asked for."""
    try:
        async with asyncio.timeout(PATIENCE), xen.store.watch("activations-rules") as events:
            assert await anext(events) == "activations-rules"
            await xen.store.write("/local/domain/0/activations-rules/x", "1")
            assert await anext(events) == "activations-rules/x"
    finally:
        await xen.store.rm("activations-rules")


@rule
async def a_watch_fires_for_a_transaction_at_its_commit(xen: Domain) -> None:
    """Not before, and not for one that is dropped."""
    async with scratch(xen) as (store, at), asyncio.timeout(PATIENCE):
        async with store.watch(at) as events:
            assert await anext(events) == at
            with suppress(ZeroDivisionError):
                async with store.transaction() as t:
                    await t.write(f"{at}/dropped", "1")
                    raise ZeroDivisionError
            async with store.transaction() as t:
                await t.write(f"{at}/a", "1")
                await store.write(f"{at}-not", "1")
            assert await anext(events) == f"{at}/a"
        await store.rm(f"{at}-not")


@rule
async def a_watchers_end_does_not_trouble_another_of_the_same_path(xen: Domain) -> None:
    """And it hears no more."""
    async with scratch(xen) as (store, at), asyncio.timeout(PATIENCE):
        heard: list[str] = []
        hearing = asyncio.Event()

        async def listen() -> None:
            async with store.watch(at) as events:
                async for path in events:
                    heard.append(path)
                    hearing.set()

        listener = asyncio.create_task(listen(), name="listener")
        async with store.watch(at) as events:
            assert await anext(events) == at
            await hearing.wait()
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener
            await store.write(f"{at}/x", "1")
            assert await anext(events) == f"{at}/x"
        assert heard == [at]


@rule
async def wait_for_returns_when_the_node_says_what_is_waited_for(xen: Domain) -> None:
    """At once if it does already."""
    async with scratch(xen) as (store, at), asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(store.wait_for(f"{at}/state", lambda state: state == "4"))
        for state in ("1", "2", "4"):
            await store.write(f"{at}/state", state)
            await asyncio.sleep(0.01)
        assert await waiting == "4"
        assert await store.wait_for(f"{at}/state") == "4"


# Between domains

a_guest_owns_its_data_and_reads_its_home = Scenario("a_guest_owns_its_data_and_reads_its_home")
"""It may write where the toolstack let it; dom0 sees what it wrote; the rest is EACCES."""


@a_guest_owns_its_data_and_reads_its_home.domain("dom0")
async def dom0(xen: Domain) -> None:
    domid = await xen.find("guest")
    home = await xen.store.get_domain_path(domid)
    said = await xen.store.wait_for(f"{home}/data/said", lambda value: value == "hello")
    assert said == "hello"
    owner, *_ = await xen.store.get_perms(f"{home}/data/said")
    assert owner.domid == domid
    await xen.store.write(f"{home}/data/answer", "bye")


@a_guest_owns_its_data_and_reads_its_home.domain("guest")
async def guest(xen: Domain) -> None:
    store = xen.store
    assert await store.read("name") == "guest"
    assert await store.read("domid") == str(xen.domid)
    to_name, elsewhere = (partial(store.write, path, "x") for path in ("name", "/tool/x"))
    for attempt in (to_name, elsewhere, partial(store.rm, "memory")):
        error = await refusal(attempt())
        assert error.errno == errno.EACCES, error
    await store.write("data/said", "hello")
    assert await store.wait_for("data/answer") == "bye"


watches_are_asked_for_amid_other_requests = Scenario("watches_are_asked_for_amid_other_requests")
"""By a guest too, where all of them go through its kernel: Linux's waits for itself if a watch is
asked for while it has an answer to hand out."""


@watches_are_asked_for_amid_other_requests.domain("guest")
async def many_at_once(xen: Domain) -> None:
    store = xen.store

    async def watch(path: str) -> None:
        async with store.watch(path) as changes:
            assert await anext(changes) == path

    async with asyncio.timeout(PATIENCE):
        for _ in range(10):
            requests = [store.read("name"), watch("data"), store.read("domid"), watch("name")]
            name, _, domid, _ = await asyncio.gather(*requests)
            assert (name, domid) == ("guest", str(xen.domid))
