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
from activations.lower import StoreUser
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
        self._events: list[asyncio.Future[None]] = []
        self._closed = False

    def fire(self) -> None:
        events, self._events = self._events, []
        for event in events:
            event.set_result(None)

    def notify(self) -> None:
        pass

    def next_event(self) -> asyncio.Future[None]:
        if self._closed:
            raise PortClosed("port 1 (to xenstored) was closed")
        event: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.append(event)
        return event

    def close(self) -> None:
        self._closed = True
        events, self._events = self._events, []
        for event in events:
            if not event.cancelled():
                event.set_exception(PortClosed("port 1 (to xenstored) was closed"))


class Script:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.closed = False
        self.user: StoreUser
        self._decoder = Decoder()

    def start(self, user: StoreUser) -> None:
        self.user = user

    def send(self, message: bytes) -> None:
        self.sent += self._decoder.feed(message)

    def close(self) -> None:
        self.closed = True

    def deliver(self, data: bytes) -> None:
        self.user.received(data)

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
