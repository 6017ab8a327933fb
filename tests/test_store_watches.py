"""The store's client: watches are taken back, and slow listeners lose nothing."""

from __future__ import annotations

import asyncio

import pytest
from store_worlds import World, cancelled, on_asyncio, settle


@on_asyncio
async def test_leaving_the_block_takes_the_watch_back(world: World) -> None:
    async with world.store() as store:
        async with store.watch("/x"), store.watch("/x"):
            assert world.watches(0) == 2
        assert world.watches(0) == 0
        assert not store.watches


@on_asyncio
async def test_a_cancelled_listener_takes_its_watch_back(world: World) -> None:
    async with world.store() as store:

        async def listen() -> None:
            async with store.watch("/x") as events:
                async for _ in events:
                    pass

        listening = asyncio.create_task(listen())
        while not world.watches(0):
            await asyncio.sleep(0)
        await settle()
        await cancelled(listening)
        assert world.watches(0) == 0


@on_asyncio
async def test_a_watch_cancelled_while_it_is_set_is_taken_back(world: World) -> None:
    async with world.store() as store:
        for turns in range(8):
            setting = asyncio.create_task(store.watch("/x").__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            done = setting.done()
            await cancelled(setting)
            await settle()
            await store.list("/")
            await settle()
            assert world.watches(0) == done, f"cancelled after {turns} turns"
            if done:
                break
        else:
            raise AssertionError("it never came to be set")


@on_asyncio
async def test_a_slow_listener_is_told_of_each_path_once(world: World) -> None:
    async with world.store() as store, store.watch("/x") as events:
        for _ in range(50):
            await store.write("/x/a", "1")
            await store.write("/x/b", "1")
        assert [await anext(events) for _ in range(3)] == ["/x", "/x/a", "/x/b"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
        await store.write("/x/a", "2")
        assert await anext(events) == "/x/a"


@on_asyncio
async def test_wait_for_sits_out_a_closed_place_until_the_node_may_be_read(world: World) -> None:
    async with world.store() as dom0, world.store(1) as guest:
        waiting = asyncio.create_task(guest.wait_for("/backend/1/state"))
        await settle()
        await dom0.write("/backend/1/state", "4")
        await settle()
        assert not waiting.done()
        await dom0.set_perms("/backend/1/state", "n0", "r1")
        assert await waiting == "4"
        assert world.watches(1) == 0


@on_asyncio
async def test_wait_for_can_be_bounded(world: World) -> None:
    async with world.store() as store:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await store.wait_for("/never")
        await settle()
        assert world.watches(0) == 0
