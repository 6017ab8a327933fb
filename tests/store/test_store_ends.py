"""The store's client: whoever waits is told when the connection ends, and why. Here xenstored ends
it, or the way to it does, by hand."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.scripted_store import FakePort, on_asyncio, scripted, settle

from activations.abi.xs_wire import ERROR, RSP_PROD, RingFault
from activations.errors import PortClosed, XenError
from activations.store import Store, StoreClosed, StoreError, WireError
from xen_sim.guests.store_ring import RingConnection


@on_asyncio
async def test_when_xenstored_goes_away_everyone_who_waits_is_told() -> None:
    async with scripted() as (store, script):
        reading = asyncio.create_task(store.read("/x"))
        watch = asyncio.create_task(store.watch("/y").__aenter__())
        script.answer(await script.next(2))
        events = await watch
        listening = asyncio.create_task(anext(events))
        await settle()
        script.user.lost(None)
        with pytest.raises(StoreClosed, match=r"XS_READ /x: .*xenstored went away") as caught:
            await reading
        assert caught.value.errno == errno.ENOTCONN
        with pytest.raises(StoreClosed, match="XS_WATCH /y"):
            await listening
        with pytest.raises(StoreClosed, match="XS_DIRECTORY /"):
            await store.list("/")
        await events.__aexit__(None, None, None)


@on_asyncio
async def test_bytes_that_are_no_messages_end_the_store_and_are_its_errors_cause() -> None:
    async with scripted() as (store, script):
        reading = asyncio.create_task(store.read("/x"))
        await script.next()
        script.deliver(b"\xff" * 16)
        with pytest.raises(StoreClosed, match="WireError") as caught:
            await reading
        assert isinstance(caught.value.__cause__, WireError)


@on_asyncio
async def test_a_message_that_cannot_be_sent_fails_its_own_request_alone() -> None:
    async with scripted() as (store, script):
        refused = asyncio.create_task(store.read("/x"))
        reading = asyncio.create_task(store.read("/y"))
        await script.next(2)
        why = XenError(errno.EINVAL, "write /dev/xen/xenbus")
        script.user.refused(script.sent[0].encode(), why)
        with pytest.raises(StoreError, match=r"XS_READ /x: .*not sent: write /dev/xen/xenbus"):
            await refused
        script.answer(script.sent[1], b"1")
        assert await reading == "1"


# The ring


@asynccontextmanager
async def on_ring() -> AsyncIterator[tuple[Store, memoryview, FakePort]]:
    """A store on a page that nobody serves, and the port that it listens to."""
    page, port = memoryview(bytearray(4096)), FakePort()
    async with Store(RingConnection(page, port)) as store:
        yield store, page, port


@on_asyncio
async def test_a_closed_port_ends_the_store() -> None:
    async with on_ring() as (store, _, port):
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        port.close()
        with pytest.raises(StoreClosed, match="PortClosed: port 1") as caught:
            await reading
        assert isinstance(caught.value.__cause__, PortClosed)


@on_asyncio
async def test_a_request_that_waits_for_room_ends_with_the_port() -> None:
    async with on_ring() as (store, _, port):
        writing = asyncio.create_task(store.write("/x", "x" * 4000))
        await settle()
        port.close()
        with pytest.raises(StoreClosed):
            await writing


@on_asyncio
async def test_xenstoreds_refusal_to_go_on_is_seen_on_the_page() -> None:
    async with on_ring() as (store, page, port):
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        page.cast("I")[ERROR // 4] = RingFault.PROTO
        port.fire()
        with pytest.raises(StoreClosed, match="went away"):
            await reading


@on_asyncio
async def test_a_ring_that_makes_no_sense_ends_the_store() -> None:
    async with on_ring() as (store, page, port):
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        page.cast("I")[RSP_PROD // 4] = 1025
        port.fire()
        with pytest.raises(StoreClosed, match="RingError"):
            await reading
