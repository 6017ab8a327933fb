"""What the store's client does, whatever xenstored is at the other end.

Its tests on the simulated xenstored look into that; these look through the client alone.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress

from rule import PATIENCE, refusal, rule, scratch

from activations import Domain, Scenario
from activations.store import Store, Transaction


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@rule
async def what_would_cut_the_connection_off_is_refused_by_the_client(xen: Domain) -> None:
    """Too long a message, and a NUL within a path."""
    async with scratch(xen) as (store, at):
        error = await refusal(store.write(f"{at}/x", "x" * 4096))
        assert error.errno == errno.E2BIG, error
        with suppress(ValueError):
            await store.read("/tool\0/tool")
            raise AssertionError("a NUL was sent")
        assert await store.list(at) == []


@rule
async def long_values_pass_whole_among_other_traffic(xen: Domain) -> None:
    """Many at once, each nearly as long as a message may be."""
    async with scratch(xen) as (store, at):
        values = {f"{at}/{number}": str(number) * 1900 for number in range(8)}
        await asyncio.gather(*(store.write(path, value) for path, value in values.items()))
        assert await asyncio.gather(*map(store.read, values)) == list(values.values())


@rule
async def cancelling_amid_long_messages_tears_none(xen: Domain) -> None:
    """What was sent is sent whole, and the answers still go to who asked."""
    async with scratch(xen) as (store, at):
        for turns in range(6):
            writes = [
                asyncio.create_task(store.write(f"{at}/{number}", str(number) * 1900))
                for number in range(6)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in writes[::2]:
                await cancelled(task)
            await asyncio.gather(*writes[1::2])
            assert await store.read(f"{at}/5") == "5" * 1900


@rule
async def many_tasks_that_count_in_one_node_lose_no_count(xen: Domain) -> None:
    """Each in a transaction of its own, tried until nobody interferes."""
    async with scratch(xen) as (store, at):
        await store.write(f"{at}/count", 0)

        async def increment(t: Transaction) -> None:
            await t.write(f"{at}/count", int(await t.read(f"{at}/count")) + 1)

        await asyncio.gather(*(store.transact(increment) for _ in range(8)))
        assert await store.read(f"{at}/count") == "8"


@rule
async def a_transaction_ends_with_its_block_and_serves_no_more(xen: Domain) -> None:
    """To use it before or after is a mistake of the program."""
    async with scratch(xen) as (store, at):
        transaction = store.transaction()

        async def use() -> bool:
            try:
                await transaction.write(f"{at}/x", "2")
            except RuntimeError:
                return False
            return True

        assert not await use()
        async with transaction:
            await transaction.write(f"{at}/x", "1")
        assert not await use()
        assert await store.read(f"{at}/x") == "1"


@rule
async def a_slow_listener_is_told_of_each_path_once(xen: Domain) -> None:
    """However often it changed meanwhile, and anew when it changes after that."""
    async with scratch(xen) as (store, at), store.watch(at) as events:
        for number in range(20):
            await store.write(f"{at}/a", number)
            await store.write(f"{at}/b", number)
        await store.write(f"{at}/last", "1")
        async with store.watch(f"{at}/last") as last:
            await anext(last)  # by now all reports have come
        paths = [await anext(events) for _ in range(4)]
        assert paths == [at, f"{at}/a", f"{at}/b", f"{at}/last"]
        await store.write(f"{at}/a", "again")
        assert await anext(events) == f"{at}/a"


@rule
async def a_watch_may_be_set_and_left_again_and_again(xen: Domain) -> None:
    """Also if it is cancelled while it is being set: xenstored would refuse a second like it, and
    more than a hundred and some of a guest."""
    async with scratch(xen) as (store, at):
        for turns in range(12):
            setting = asyncio.create_task(hold(store, at))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancelled(setting)
        async with store.watch(at) as events, store.watch(at) as twice:
            assert await anext(events) == await anext(twice) == at
        assert not store.watches


async def hold(store: Store, path: str) -> None:
    async with store.watch(path):
        await asyncio.Event().wait()


@rule
async def waiting_for_a_node_can_be_bounded(xen: Domain) -> None:
    """And leaves no watch behind."""
    async with scratch(xen) as (store, at):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.wait_for(f"{at}/never")
            raise AssertionError("it came")
        assert not store.watches


guest_quota = Scenario("a_guest_that_is_cancelled_leaves_no_transaction_behind")
"""xenstored allows a guest ten at once, and says so with ENOSPC."""


@guest_quota.domain("dom0")
async def indifferent(xen: Domain) -> None:
    guest = await xen.find("guest")
    await xen.store.wait_for(f"/local/domain/{guest}/data/done")


@guest_quota.domain("guest")
async def impatient(xen: Domain) -> None:
    store = xen.store

    async def change() -> None:
        async with store.transaction() as t:
            await t.write("data/x", "1")
            await asyncio.Event().wait()

    for number in range(40):
        changing = asyncio.create_task(change())
        for _ in range(number % 10):
            await asyncio.sleep(0)
        await cancelled(changing)
        await store.exists("data/x")
    assert not await store.exists("data/x")
    async with store.transaction() as t:
        await t.write("data/done", "1")


forbidden = Scenario("transact_gives_up_on_other_errors_at_once")


@forbidden.domain("dom0")
async def strict(xen: Domain) -> None:
    guest = await xen.find("guest")
    closed = "/tool/activations-closed"
    await xen.store.write(closed, "4")
    await xen.store.set_perms(closed, "n0")
    home = f"/local/domain/{guest}"
    await xen.store.write(f"{home}/data/begin", "1")
    await xen.store.wait_for(f"{home}/data/waits")
    await xen.store.set_perms(closed, "n0", f"r{guest}")
    await xen.store.wait_for(f"{home}/data/done")
    await xen.store.rm(closed)


@forbidden.domain("guest")
async def curious(xen: Domain) -> None:
    """What may not be read can be waited for: it counts as not there."""
    runs = 0

    async def trespass(t: Transaction) -> None:
        nonlocal runs
        runs += 1
        await t.write("/tool/activations-closed", "1")

    await xen.store.wait_for("data/begin")
    error = await refusal(xen.store.transact(trespass))
    assert (error.errno, runs) == (errno.EACCES, 1)
    waiting = asyncio.create_task(xen.store.wait_for("/tool/activations-closed"))
    await xen.store.write("data/waits", "1")
    async with asyncio.timeout(PATIENCE):
        assert await waiting == "4"
    await xen.store.write("data/done", "1")
