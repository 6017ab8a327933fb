"""The store's client: transactions are ended, however their block is left."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from store_worlds import World, cancelled, on_asyncio, scripted, settle

from activations.abi.xs_wire import MessageType
from activations.store import StoreError
from activations.store.wire import Message


@on_asyncio
async def test_a_transaction_cancelled_while_it_begins_is_dropped() -> None:
    async with scripted() as (store, script):
        beginning = asyncio.create_task(store.transaction().__aenter__())
        request = await script.next()
        await cancelled(beginning)
        script.answer(request, b"5\0")
        end = await script.next(2)
        assert (end.kind, end.tx_id, end.payload) == (MessageType.TRANSACTION_END, 5, b"F\0")


@on_asyncio
async def test_a_transaction_cancelled_as_its_number_arrives_is_dropped() -> None:
    async with scripted() as (store, script):
        beginning = asyncio.create_task(store.transaction().__aenter__())
        request = await script.next()
        store._dispatch(Message(request.kind, b"5\0", request.req_id))
        await cancelled(beginning)
        end = await script.next(2)
        assert (end.kind, end.tx_id, end.payload) == (MessageType.TRANSACTION_END, 5, b"F\0")


@on_asyncio
async def test_a_task_cancelled_within_a_transaction_drops_it(world: World) -> None:
    async with world.store() as store:

        async def change() -> None:
            async with store.transaction() as t:
                await t.write("/x", "1")
                await asyncio.sleep(1000)

        changing = asyncio.create_task(change())
        while not world.transactions(0):
            await asyncio.sleep(0)
        await settle()
        await cancelled(changing)
        assert not world.transactions(0)
        assert not await store.exists("/x")


@on_asyncio
async def test_a_transaction_outside_its_block_is_a_mistake(world: World) -> None:
    async with world.store() as store:
        transaction = store.transaction()
        with pytest.raises(RuntimeError, match="outside"):
            await transaction.read("/tool")
        async with transaction:
            await transaction.read("/tool")
        with pytest.raises(RuntimeError, match="outside"):
            await transaction.write("/tool", "")


@on_asyncio
async def test_transact_gives_up_on_other_errors_at_once(world: World) -> None:
    async with world.store(1) as store:
        runs = 0

        async def forbidden(t: Any) -> None:
            nonlocal runs
            runs += 1
            await t.write("/tool/x", "1")

        with pytest.raises(StoreError) as caught:
            await store.transact(forbidden)
        assert (caught.value.errno, runs) == (errno.EACCES, 1)
        assert not world.transactions(1)


@on_asyncio
async def test_many_tasks_that_count_in_one_node_lose_no_count(world: World) -> None:
    async with world.store() as store, world.store() as other:
        await store.write("/count", 0)

        async def increment(t: Any) -> None:
            await t.write("/count", int(await t.read("/count")) + 1)

        await asyncio.gather(*(each.transact(increment) for each in (store, other) * 8))
        assert await store.read("/count") == "16"
