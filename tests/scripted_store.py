"""What tests of the store's client share that play xenstored by hand.

They are those that need an answer which no xenstored gives, or gives at will. All others are rules
(`rules/store_client.py`), and run on every xenstored there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from activations.errors import PortClosed
from activations.store import Store
from activations.store.wire import Decoder, Message

Test = Callable[[], Awaitable[None]]


def on_asyncio(test: Test) -> Callable[[], None]:
    """Run a coroutine function as a test on stock asyncio, and find tasks it has left behind."""

    async def body() -> None:
        async with asyncio.timeout(20):
            await test()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left running: {left}"

    def run() -> None:
        asyncio.run(body(), debug=True)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class FakePort:
    """A port to xenstored without a Xen."""

    def __init__(self) -> None:
        self._fired = asyncio.Event()
        self._closed = False

    def fire(self) -> None:
        self._fired.set()

    def notify(self) -> None:
        pass

    async def wait(self) -> int:
        await self._fired.wait()
        self._fired.clear()
        if self._closed:
            raise PortClosed("port 1 (to xenstored) was closed")
        return 1

    def close(self) -> None:
        self._closed = True
        self._fired.set()


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
