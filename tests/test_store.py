"""The store's client on stock asyncio: matching, cancelling, and what happens when things break."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from activations.abi.xs_wire import ERROR, RSP_PROD, MessageType, RingFault
from activations.errors import PortClosed, XenError
from activations.store import Store, StoreClosed, StoreError, WireError
from activations.store.wire import Decoder, Message, join
from xen_sim.store_ring import RingConnection
from xen_sim.xenstored import MemoryConnection, RingServer, Xenstored, toolstack

Test = Callable[..., Awaitable[None]]


def on_asyncio(test: Test) -> Callable[..., None]:
    """Run a coroutine function as a test, and find tasks it has left behind."""

    async def body(*args: Any) -> None:
        async with asyncio.timeout(20):
            await test(*args)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"

    def run(world: World) -> None:
        asyncio.run(body(world), debug=True)

    def run_alone() -> None:
        asyncio.run(body(), debug=True)

    wanted = run if "world" in test.__code__.co_varnames[: test.__code__.co_argcount] else run_alone
    wanted.__name__, wanted.__doc__ = test.__name__, test.__doc__
    return wanted


class FakePort:
    """A port to xenstored without a Xen: an event of either side is a call of the other's."""

    def __init__(self) -> None:
        self.kick: Callable[[], None] = lambda: None
        self._fired = asyncio.Event()
        self._closed = False

    def fire(self) -> None:
        self._fired.set()

    def notify(self) -> None:
        self.kick()

    async def wait(self) -> int:
        await self._fired.wait()
        self._fired.clear()
        if self._closed:
            raise PortClosed("port 1 (to xenstored) was closed")
        return 1

    def close(self) -> None:
        self._closed = True
        self._fired.set()


class World:
    """A xenstored with dom0 and one guest, and a way to reach it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.xenstored = Xenstored()
        toolstack.introduce_dom0(self.xenstored)
        toolstack.introduce(self.xenstored, 1, "guest")

    def store(self, domid: int = 0) -> Store:
        if self.kind == "memory":
            return Store(MemoryConnection(self.xenstored, domid))
        page, port = memoryview(bytearray(4096)), FakePort()
        page.cast("I")[512:516] = memoryview(b"\xf0\xff\xff\xff" * 4).cast("I")
        connection = self.xenstored.connect(domid)
        port.kick = RingServer(page, connection, port.fire).kick
        return Store(RingConnection(page, port))  # type: ignore[arg-type]

    def watches(self, domid: int) -> int:
        return sum(len(each.watches) for each in self._connections(domid))

    def transactions(self, domid: int) -> int:
        return sum(len(each.transactions) for each in self._connections(domid))

    def _connections(self, domid: int) -> list[Any]:
        return [each for each in self.xenstored.connections if each.domid == domid]


@pytest.fixture(params=["memory", "ring"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


class Script:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed = False
        self._decoder = Decoder()
        self._incoming: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    async def send(self, message: bytes) -> None:
        self.sent += self._decoder.feed(message)

    async def receive(self) -> bytes:
        data = await self._incoming.get()
        if isinstance(data, Exception):
            raise data
        return data

    def close(self) -> None:
        self.closed = True

    def deliver(self, data: bytes | Exception) -> None:
        self._incoming.put_nowait(data)

    def answer(self, request: Message, payload: bytes = b"OK\0", kind: int | None = None) -> None:
        kind = request.kind if kind is None else kind
        self.deliver(Message(kind, payload, request.req_id, request.tx_id).encode())

    async def next(self, count: int = 1) -> Message:
        """Wait until so many requests have been sent; give the last."""
        while len(self.sent) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return self.sent[count - 1]


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Store, Script]]:
    script = Script()
    async with Store(script) as store:
        yield store, script
    assert script.closed


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def settle() -> None:
    """Let everything that is ready happen."""
    for _ in range(20):
        await asyncio.sleep(0)


# Requests and replies


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
async def test_a_reply_nobody_asked_for_is_ignored() -> None:
    async with scripted() as (store, script):
        script.deliver(Message(MessageType.READ, b"x", 99).encode())
        script.deliver(Message(MessageType.WATCH_EVENT, join("/x", "unknown")).encode())
        asking = asyncio.create_task(store.read("/x"))
        script.answer(await script.next(), b"1")
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
async def test_what_would_cut_the_connection_off_is_refused_here(world: World) -> None:
    async with world.store() as store:
        with pytest.raises(StoreError, match="XS_WRITE /x") as caught:
            await store.write("/x", "x" * 4096)
        assert caught.value.errno == errno.E2BIG
        with pytest.raises(ValueError, match="NUL"):
            await store.read("/tool\0/tool")
        with pytest.raises(ValueError, match="permission"):
            await store.set_perms("/tool", "x1")
        assert await store.list("/tool") == ["xenstored"]


@on_asyncio
async def test_an_error_is_an_oserror_and_a_xen_error(world: World) -> None:
    async with world.store() as store:
        with pytest.raises(OSError, match="XS_READ /missing") as caught:
            await store.read("/missing")
        error = caught.value
        assert isinstance(error, XenError)
        assert isinstance(error, StoreError)
        assert (error.errno, error.path, error.kind) == (
            errno.ENOENT,
            "/missing",
            MessageType.READ,
        )


@on_asyncio
async def test_long_values_pass_whole_among_other_traffic(world: World) -> None:
    async with world.store() as store:
        values = {f"/big/{n}": str(n) * 4000 for n in range(8)}
        await asyncio.gather(*(store.write(path, value) for path, value in values.items()))
        assert await asyncio.gather(*map(store.read, values)) == list(values.values())


@on_asyncio
async def test_cancelling_amid_long_messages_does_not_tear_one(world: World) -> None:
    async with world.store() as store:
        writes = [asyncio.create_task(store.write(f"/{n}", str(n) * 3000)) for n in range(6)]
        await asyncio.sleep(0)
        for task in writes[::2]:
            await cancelled(task)
        await asyncio.gather(*writes[1::2])
        assert await store.read("/5") == "5" * 3000


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


# Transactions


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
        while not world.transactions(0):  # noqa: ASYNC110
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


# Watches


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
        while not world.watches(0):  # noqa: ASYNC110
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
        assert world.watches(0) == 0


# Ends


@on_asyncio
async def test_when_xenstored_goes_away_everyone_who_waits_is_told() -> None:
    async with scripted() as (store, script):
        reading = asyncio.create_task(store.read("/x"))
        watch = asyncio.create_task(store.watch("/y").__aenter__())
        script.answer(await script.next(2))
        events = await watch
        listening = asyncio.create_task(anext(events))
        await settle()
        script.deliver(b"")
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
        sending = script.send

        async def refuse(message: bytes) -> None:
            raise XenError(errno.EINVAL, "write /dev/xen/xenbus")

        script.send = refuse  # type: ignore[method-assign]
        with pytest.raises(StoreError, match=r"XS_READ /x: .*not sent: write /dev/xen/xenbus"):
            await store.read("/x")
        script.send = sending  # type: ignore[method-assign]
        reading = asyncio.create_task(store.read("/y"))
        script.answer(await script.next(), b"1")
        assert await reading == "1"


@on_asyncio
async def test_closing_tells_who_waits_and_leaves_no_task(world: World) -> None:
    store = world.store()
    await store.list("/")
    never = asyncio.create_task(store.wait_for("/never"))
    await settle()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreClosed, match="the store was closed"):
        await never
    with pytest.raises(StoreClosed):
        await store.read("/")


@on_asyncio
async def test_a_store_that_was_never_used_closes_too(world: World) -> None:
    await world.store().aclose()


@on_asyncio
async def test_the_reader_can_be_told_from_other_tasks(world: World) -> None:
    async with world.store() as store:
        await store.list("/")
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "xenstore reader" in names
        assert "xenstore writer" not in names, "it exists only while there is something to send"


# The ring


@on_asyncio
async def test_a_closed_port_ends_the_store() -> None:
    page, port = memoryview(bytearray(4096)), FakePort()
    async with Store(RingConnection(page, port)) as store:  # type: ignore[arg-type]
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        port.close()
        with pytest.raises(StoreClosed, match="PortClosed: port 1") as caught:
            await reading
        assert isinstance(caught.value.__cause__, PortClosed)


@on_asyncio
async def test_a_request_that_waits_for_room_ends_with_the_port() -> None:
    page, port = memoryview(bytearray(4096)), FakePort()
    async with Store(RingConnection(page, port)) as store:  # type: ignore[arg-type]
        writing = asyncio.create_task(store.write("/x", "x" * 4000))
        await settle()
        port.close()
        with pytest.raises(StoreClosed):
            await writing
        await settle()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "xenstore writer"]


@on_asyncio
async def test_xenstoreds_refusal_to_go_on_is_seen_on_the_page() -> None:
    page, port = memoryview(bytearray(4096)), FakePort()
    async with Store(RingConnection(page, port)) as store:  # type: ignore[arg-type]
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        page.cast("I")[ERROR // 4] = RingFault.PROTO
        port.fire()
        with pytest.raises(StoreClosed, match="went away"):
            await reading


@on_asyncio
async def test_a_ring_that_makes_no_sense_ends_the_store() -> None:
    page, port = memoryview(bytearray(4096)), FakePort()
    async with Store(RingConnection(page, port)) as store:  # type: ignore[arg-type]
        reading = asyncio.create_task(store.read("/x"))
        await settle()
        page.cast("I")[RSP_PROD // 4] = 1025
        port.fire()
        with pytest.raises(StoreClosed, match="RingError"):
            await reading
