"""What the store's client does, whatever xenstored is at the other end.

They look through the client alone. What it may have left behind in xenstored shows in a guest, by
the quota: `room`. A guest's round trips take long on a real Xen, so what is many is asked at once.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from itertools import count

from rule import PATIENCE, guest_rule, refusal, rule, scratch

from activations import Domain, Scenario
from activations.abi.xs_wire import MessageType
from activations.errors import XenError
from activations.store import QuotaError, Store, StoreClosed, StoreError, Transaction, Watch


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def settled(store: Store) -> None:
    """Whatever was asked of xenstored until now is done, and what takes it back is."""
    for _ in range(2):
        await store.exists("data")


async def room(open_one: Callable[[], AbstractAsyncContextManager[object]]) -> int:
    """How many more of these xenstored lets this guest have at once."""
    opened = 0

    async def hoard(stack: AsyncExitStack) -> None:
        nonlocal opened
        while True:
            await stack.enter_async_context(open_one())
            opened += 1

    async with AsyncExitStack() as stack:
        error = await refusal(hoard(stack))
    # a transaction too many is ENOSPC, a watch E2BIG; Linux makes EINVAL of oxenstored's EQUOTA
    assert error.errno in (errno.ENOSPC, errno.E2BIG, errno.EINVAL), error
    return opened


AT_ONCE = 32


@asynccontextmanager
async def all_watches(store: Store) -> AsyncIterator[tuple[list[Watch], StoreError]]:
    """As many as xenstored lets this guest have, about a hundred; and the error of one more."""
    held: list[Watch] = []
    try:
        while True:
            more = [store.watch("data") for _ in range(AT_ONCE)]
            setting = (watch.__aenter__() for watch in more)
            ends = await asyncio.gather(*setting, return_exceptions=True)
            held += [watch for watch, end in zip(more, ends, strict=True) if end is watch]
            errors = [end for end in ends if isinstance(end, StoreError)]
            if errors:
                break
        yield held, errors[0]
    finally:
        await asyncio.gather(*(watch.__aexit__(None, None, None) for watch in held))


@asynccontextmanager
async def few_watches(store: Store) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Leave room for a few watches; gives what counts for how many there is."""
    async with all_watches(store) as (held, _):
        for _ in range(4):
            await held.pop().__aexit__(None, None, None)
        yield lambda: room(lambda: store.watch("data"))


# Requests


@rule
async def what_would_cut_the_connection_off_is_refused_by_the_client(xen: Domain) -> None:
    """Too long a message, a NUL within a path, and what is no permission."""
    async with scratch(xen) as (store, at):
        error = await refusal(store.write(f"{at}/x", "x" * 4096))
        assert (error.errno, error.path) == (errno.E2BIG, f"{at}/x"), error
        assert "NUL" in str(await refusal(store.read("/tool\0/tool"), ValueError))
        assert "permission" in str(await refusal(store.set_perms(at, "x1"), ValueError))
        assert await store.list(at) == []


@rule
async def a_refusal_is_an_oserror_and_a_xen_error(xen: Domain) -> None:
    """With the number that xenstored's name for it has, and what was asked of which path."""
    error = await refusal(xen.store.read("/tool/activations-missing"), OSError)
    assert isinstance(error, StoreError)
    assert isinstance(error, XenError)
    assert error.errno == errno.ENOENT
    assert (error.kind, error.path) == (MessageType.READ, "/tool/activations-missing")


@rule
async def long_values_pass_whole_among_other_traffic(xen: Domain) -> None:
    """Many at once, each longer than the ring between a guest and its xenstored."""
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


# Transactions


counting = Scenario("many_tasks_that_count_in_one_node_lose_no_count")
"""Each in a transaction of its own, tried until nobody interferes: in two domains at once."""


async def count_up(store: Store, path: str) -> None:
    async def increment(t: Transaction) -> None:
        await t.write(path, int(await t.read(path)) + 1)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(store.transact(increment) for _ in range(4)))


@counting.domain("dom0")
async def first_counter(xen: Domain) -> None:
    guest = await xen.find("guest")
    at = f"/local/domain/{guest}/data/count"
    await xen.store.write(at, 0)
    await count_up(xen.store, at)
    async with asyncio.timeout(PATIENCE):
        await xen.store.wait_for(at, lambda value: value == "8")
    await xen.store.write(f"/local/domain/{guest}/data/done", "1")


@counting.domain("guest")
async def second_counter(xen: Domain) -> None:
    await xen.store.wait_for("data/count")
    await count_up(xen.store, "data/count")
    await xen.store.wait_for("data/done")


@rule
async def a_transaction_ends_with_its_block_and_serves_no_more(xen: Domain) -> None:
    """To use it before or after is a mistake of the program."""
    async with scratch(xen) as (store, at):
        transaction = store.transaction()
        await refusal(transaction.write(f"{at}/x", "2"), RuntimeError)
        async with transaction:
            await transaction.write(f"{at}/x", "1")
        await refusal(transaction.write(f"{at}/x", "2"), RuntimeError)
        assert await store.read(f"{at}/x") == "1"


@guest_rule
async def a_task_that_is_cancelled_leaves_no_transaction_behind(xen: Domain) -> None:
    """Whether it was still beginning, or in the midst of it, and nothing of what it wrote."""
    store = xen.store

    async def change() -> None:
        async with store.transaction() as t:
            await t.write("data/x", "1")
            await asyncio.Event().wait()

    before = await room(store.transaction)
    for turns in range(40):
        changing = asyncio.create_task(change())
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        await cancelled(changing)
        await settled(store)
    assert await room(store.transaction) == before
    assert not await store.exists("data/x")


@guest_rule
async def thirty_tasks_with_a_transaction_each_take_turns(xen: Domain) -> None:
    """At once they would be beyond a guest's quota, and those that are cancelled keep no turn."""
    store = xen.store

    async def change(number: int) -> None:
        async with store.transaction() as t:
            await t.exists(f"data/x/{number}")
            await asyncio.sleep(0.01)

    async with asyncio.timeout(PATIENCE):
        for turns in (None, 0, 1, 5, 20, None):
            changing = [asyncio.create_task(change(number)) for number in range(30)]
            if turns is not None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in changing:
                    task.cancel()
            ends = await asyncio.gather(*changing, return_exceptions=True)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends), ends
            assert turns is not None or ends == [None] * 30


@guest_rule
async def a_task_is_not_held_back_by_transactions_of_its_own(xen: Domain) -> None:
    """It would wait for itself. What is beyond the quota is refused, and the quota named."""
    store = xen.store
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:

        async def hoard() -> None:
            while True:
                await stack.enter_async_context(store.transaction())

        error = await refusal(hoard(), QuotaError)
        assert error.quota == "transactions"
        assert f"domain {xen.domid} has used up its quota of transactions" in str(error)


@guest_rule
async def one_watch_too_many_says_whose_quota_is_used_up(xen: Domain) -> None:
    """Which is E2BIG of xenstored's, "Argument list too long"."""
    store = xen.store
    async with asyncio.timeout(PATIENCE), all_watches(store) as (_, error):
        if error.errno != errno.EINVAL:  # Linux has made that of oxenstored's EQUOTA
            assert isinstance(error, QuotaError)
            assert error.quota == "watches"
            assert f"domain {xen.domid} has used up its quota of watches" in str(error)


@guest_rule
async def transact_gives_up_on_other_errors_at_once(xen: Domain) -> None:
    """And leaves no transaction behind."""
    runs = 0

    async def trespass(t: Transaction) -> None:
        nonlocal runs
        runs += 1
        await t.write("/tool/activations-forbidden", "1")

    before = await room(xen.store.transaction)
    error = await refusal(xen.store.transact(trespass))
    assert (error.errno, runs) == (errno.EACCES, 1)
    assert await room(xen.store.transaction) == before


# Watches


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
async def a_watch_outside_its_block_is_a_mistake(xen: Domain) -> None:
    """Nobody waits for what will never come: not before it, after it, nor as another leaves it."""
    async with scratch(xen) as (store, at):
        watch = store.watch(at)
        await refusal(anext(watch), RuntimeError)
        async with watch:
            assert await anext(watch) == at
            other = asyncio.create_task(anext(watch))
            await store.exists(at)
        await refusal(other, RuntimeError)
        await refusal(anext(watch), RuntimeError)


@guest_rule
async def leaving_a_watchs_block_takes_it_back(xen: Domain) -> None:
    """One of two on the same path, too."""
    store = xen.store
    async with few_watches(store) as left:
        before = await left()
        async with store.watch("data") as stays:
            assert await anext(stays) == "data"
            async with store.watch("data"), store.watch("data"):
                pass
            assert await left() == before - 1
            await store.write("data/x", "1")
            assert await anext(stays) == "data/x"
        assert await left() == before
    assert not store.watches


@guest_rule
async def a_listener_that_is_cancelled_takes_its_watch_back(xen: Domain) -> None:
    """It waits for the next change, as most of the time."""
    store = xen.store
    hearing = asyncio.Event()

    async def listen() -> None:
        async with store.watch("data") as events:
            async for _ in events:
                hearing.set()

    async with few_watches(store) as left:
        before = await left()
        listening = asyncio.create_task(listen())
        await hearing.wait()
        await cancelled(listening)
        assert await left() == before
    assert not store.watches


@guest_rule
async def a_watch_that_is_cancelled_while_it_is_set_is_taken_back(xen: Domain) -> None:
    """At whichever turn, up to the one in which it was set."""
    store = xen.store
    async with few_watches(store) as left:
        before = await left()
        for turns in count():
            watch = store.watch("data")
            setting = asyncio.create_task(watch.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            if setting.done():
                await watch.__aexit__(None, None, None)
                break
            await cancelled(setting)
            await settled(store)
        assert turns > 1, "it was set before it could be cancelled"
        assert await left() == before
    assert not store.watches


@guest_rule
async def waiting_for_a_node_can_be_bounded(xen: Domain) -> None:
    """And leaves no watch behind."""
    store = xen.store
    async with few_watches(store) as left:
        before = await left()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.wait_for("data/never")
            raise AssertionError("it came")
        assert await left() == before
    assert not store.watches


closed_place = Scenario("what_may_not_be_read_can_be_waited_for")
"""It counts as not there, until it may be read."""


@closed_place.domain("dom0")
async def keeper(xen: Domain) -> None:
    store, closed = xen.store, "/tool/activations-closed"
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}"
    await store.wait_for(f"{home}/data/waits")
    await store.write(closed, "4")
    await store.write(f"{home}/data/made", "1")
    await store.wait_for(f"{home}/data/still-waits")
    await store.set_perms(closed, "n0", f"r{guest}")
    await store.wait_for(f"{home}/data/done")
    await store.rm(closed)


@closed_place.domain("guest")
async def caller(xen: Domain) -> None:
    store = xen.store
    async with asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(store.wait_for("/tool/activations-closed"))
        await settled(store)
        await store.write("data/waits", "1")
        await store.wait_for("data/made")
        await settled(store)
        assert not waiting.done()
        await store.write("data/still-waits", "1")
        assert await waiting == "4"
    await store.write("data/done", "1")


# The end


@rule
async def closing_tells_who_waits_and_leaves_no_task(xen: Domain) -> None:
    """And twice is harmless."""
    store = xen.store
    never = asyncio.create_task(store.wait_for("/tool/activations-never"))
    await store.list("/")
    store.close()
    store.close()
    assert "the store was closed" in str(await refusal(never, StoreClosed))
    await refusal(store.read("/"), StoreClosed)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@rule
async def a_store_that_was_never_used_closes_too(xen: Domain) -> None:
    """Nothing of it has been begun."""
    xen.store.close()
    await refusal(xen.store.read("/"), StoreClosed)


@rule
async def the_store_has_no_task_of_its_own(xen: Domain) -> None:
    """Whoever cancels every task does not cancel it: what those then ask of it is answered."""
    store = xen.store
    async with store.watch("/tool"):
        await store.list("/")
        assert asyncio.all_tasks() == {asyncio.current_task()}
