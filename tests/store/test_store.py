"""The store's client, with a xenstored that is played by hand: requests, replies, and which belong
together. What it does with a xenstored at the other end are rules (`rules/store_client.py`)."""

from __future__ import annotations

import asyncio
import errno

import pytest
from support.scripted_store import cancelled, on_asyncio, scripted, settle

from activations.abi.xs_wire import HEADER, MessageType
from activations.store import Store, StoreError
from activations.store.turns import TURNS
from activations.store.wire import Message, join


@on_asyncio
async def test_replies_are_matched_by_their_number_in_any_order() -> None:
    async with scripted() as (store, script):
        asking = [asyncio.create_task(store.read(f"/{n}")) for n in range(3)]
        await script.next(3)
        for request in reversed(script.sent):
            script.answer(request, b"value of " + request.payload[:-1])
        assert await asyncio.gather(*asking) == [f"value of /{n}" for n in range(3)]


@on_asyncio
async def test_requests_are_sent_in_the_order_they_were_made() -> None:
    async with scripted() as (store, script):
        asking = [asyncio.create_task(store.read(f"/{n}")) for n in range(5)]
        await script.next(5)
        assert [request.payload for request in script.sent] == [join(f"/{n}") for n in range(5)]
        for task in asking:
            await cancelled(task)


@on_asyncio
async def test_a_number_is_not_used_again_while_its_reply_is_out() -> None:
    async with scripted() as (store, script):
        first = asyncio.create_task(store.read("/first"))
        number = (await script.next()).req_id
        store._req_id = number - 1  # as after 2^32 requests
        second = asyncio.create_task(store.read("/second"))
        assert (await script.next(2)).req_id != number
        for request in script.sent:
            script.answer(request, request.payload[:-1])
        assert await asyncio.gather(first, second) == ["/first", "/second"]


@on_asyncio
async def test_numbers_wrap_at_2_to_the_32() -> None:
    async with scripted() as (store, script):
        store._req_id = 2**32 - 1
        asking = asyncio.create_task(store.read("/x"))
        request = await script.next()
        assert request.req_id == 0
        script.answer(request, b"1")
        assert await asking == "1"


@on_asyncio
async def test_a_cancelled_requests_reply_is_swallowed() -> None:
    async with scripted() as (store, script):
        first = asyncio.create_task(store.read("/first"))
        request = await script.next()
        await cancelled(first)
        second = asyncio.create_task(store.read("/second"))
        script.answer(request, b"too late")
        script.answer(await script.next(2), b"in time")
        assert await second == "in time"
        assert "0 requests" in repr(store)


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


async def begin_another(store: Store) -> None:
    await store.turns.take()


@on_asyncio
async def test_a_transaction_cancelled_while_it_begins_keeps_its_turn_until_the_answer() -> None:
    """xenstored has it open until then, or refuses it: in either case another's turn comes."""
    async with scripted() as (store, script):

        async def begin() -> None:
            await store.transaction().__aenter__()

        beginning = [asyncio.create_task(begin()) for _ in range(TURNS + 1)]
        await script.next(TURNS)
        for task in beginning[:TURNS]:
            await cancelled(task)
        await settle()
        assert len(script.sent) == TURNS
        for request, refused in zip(script.sent[:TURNS], (False, True) * (TURNS // 2), strict=True):
            if refused:
                script.answer(request, b"ENOSPC\0", MessageType.ERROR)
            else:
                script.answer(request, b"5\0")
        script.answer(await script.next(TURNS + TURNS // 2 + 1), b"6\0")
        await beginning[TURNS]
        async with asyncio.timeout(10):
            await asyncio.gather(*(begin_another(store) for _ in range(TURNS - 1)))


@on_asyncio
async def test_a_reply_nobody_asked_for_is_ignored() -> None:
    async with scripted() as (store, script):
        asking = asyncio.create_task(store.read("/x"))
        request = await script.next()
        script.deliver(Message(MessageType.READ, b"x", 99).encode())
        script.deliver(Message(MessageType.WATCH_EVENT, join("/x", "unknown")).encode())
        script.answer(request, b"1")
        assert await asking == "1"


@on_asyncio
async def test_an_error_of_no_known_name_is_eio_and_says_the_name() -> None:
    async with scripted() as (store, script):
        asking = asyncio.create_task(store.read("/x"))
        script.answer(await script.next(), b"EWEIRD\0", MessageType.ERROR)
        with pytest.raises(StoreError, match=r"XS_READ /x: .*\(EWEIRD\)") as caught:
            await asking
        assert caught.value.errno == errno.EIO


@on_asyncio
async def test_an_answer_of_another_type_is_an_error() -> None:
    async with scripted() as (store, script):
        asking = asyncio.create_task(store.read("/x"))
        script.answer(await script.next(), b"OK\0", MessageType.WRITE)
        with pytest.raises(StoreError, match="message of type 11"):
            await asking


@on_asyncio
async def test_a_listing_that_changes_between_its_parts_is_fetched_again() -> None:
    async with scripted() as (store, script):
        listing = asyncio.create_task(store.list("/x"))
        script.answer(await script.next(), b"E2BIG\0", MessageType.ERROR)
        parts = [(b"", b"7\0a\0"), (b"2", b"8\0c\0\0"), (b"0", b"8\0b\0"), (b"2", b"8\0c\0\0")]
        for number, (_, answer) in enumerate(parts, 2):
            script.answer(await script.next(number), answer)
        assert await listing == ["b", "c"]
        offsets = [request.payload.split(b"\0")[1] for request in script.sent[1:]]
        assert offsets == [b"0", b"2", b"0", b"2"]


@on_asyncio
async def test_a_listing_that_comes_in_one_long_message_is_taken() -> None:
    """As oxenstored sends it over a socket, past the 4096 bytes that the protocol allows."""
    async with scripted() as (store, script):
        listing = asyncio.create_task(store.list("/x"))
        request = await script.next()
        names = [f"name-{number}" for number in range(1000)]
        payload = join(*names)
        header = HEADER.pack(request.kind, request.req_id, request.tx_id, len(payload))
        script.deliver(header + payload)
        assert await listing == names


@on_asyncio
async def test_a_long_listing_that_xenstored_cannot_give_in_parts_is_e2big() -> None:
    """As a guest is told by oxenstored, in two steps."""
    async with scripted() as (store, script):
        listing = asyncio.create_task(store.list("/x"))
        script.answer(await script.next(), b"E2BIG\0", MessageType.ERROR)
        script.answer(await script.next(2), b"ENOSYS\0", MessageType.ERROR)
        with pytest.raises(StoreError, match=r"XS_DIRECTORY /x: .*in parts") as caught:
            await listing
        assert caught.value.errno == errno.E2BIG


@on_asyncio
async def test_a_quota_that_is_used_up_is_enospc_whichever_xenstored_says_so() -> None:
    async with scripted() as (store, script):
        for number, name in enumerate((b"ENOSPC", b"EQUOTA"), 1):
            writing = asyncio.create_task(store.write("/x", "1"))
            script.answer(await script.next(number), name + b"\0", MessageType.ERROR)
            with pytest.raises(StoreError, match="XS_WRITE /x") as caught:
                await writing
            assert caught.value.errno == errno.ENOSPC
