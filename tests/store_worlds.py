"""What tests of the store's client share: two ways to reach a xenstored, and one played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from activations.errors import PortClosed
from activations.store import Store
from activations.store.wire import Decoder, Message
from xen_sim.store_ring import RingConnection
from xen_sim.xenstored import MemoryConnection, RingServer, Xenstored, toolstack

Test = Callable[..., Awaitable[None]]


def on_asyncio(test: Test) -> Callable[..., None]:
    """Run a coroutine function as a test on stock asyncio, and find tasks it has left behind. One
    that takes a `world` runs in each kind of it."""

    async def body(*args: Any) -> None:
        async with asyncio.timeout(20):
            await test(*args)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"

    @pytest.mark.parametrize("kind", ["memory", "ring"])
    def run(kind: str) -> None:
        asyncio.run(body(World(kind)), debug=True)

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
        while len(self.sent) < count:
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
