"""Watching a path: which nodes changed, as they change."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from activations.abi.xs_wire import MessageType
from activations.store.errors import StoreClosed
from activations.store.wire import join

if TYPE_CHECKING:
    from activations.store.client import Store


class Watch:
    """`async with store.watch(path) as events: async for changed in events: ...`

    The first path comes at once, the watched one itself; then each path at or below it that was
    written, made, removed or given other permissions. A path says "look again", not what to see:
    one that has not been taken yet is not kept twice, so a slow reader holds no more than there
    are nodes. Leaving the block, by cancellation as well, takes the watch back.

    `arrived`, if given, is set at every change: one event for those who wait for several watches
    at once, and look for themselves.

    The iteration does not end by itself. It raises `StoreClosed` if the connection goes away, and
    `RuntimeError` outside the block.
    """

    def __init__(
        self, store: Store, path: str, token: str, arrived: asyncio.Event | None = None
    ) -> None:
        self.path = path
        self._store = store
        self._token = token
        self._changed: OrderedDict[str, None] = OrderedDict()
        self._arrived = arrived or asyncio.Event()

    async def __aenter__(self) -> Watch:
        self._store.watches[self._token] = self
        try:
            await self._store.request(
                MessageType.WATCH, self._payload, path=self.path, undo=self._take_back
            )
        except BaseException:
            del self._store.watches[self._token]
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        del self._store.watches[self._token]
        self._changed.clear()
        self.wake()
        with suppress(StoreClosed):  # the watch went with the connection
            await self._store.request(MessageType.UNWATCH, self._payload, path=self.path)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> str:
        while not self._changed:
            if closed := self._store.closed:
                raise StoreClosed(MessageType.WATCH, self.path, closed)
            if self._token not in self._store.watches:
                raise RuntimeError("a watch is used outside its `async with` block")
            self._arrived.clear()
            await self._arrived.wait()
        return self._changed.popitem(last=False)[0]

    def fire(self, path: str) -> None:
        """A watch event came."""
        self._changed[path] = None
        self._arrived.set()

    def wake(self) -> None:
        """No event will come any more."""
        self._arrived.set()

    @property
    def _payload(self) -> bytes:
        return join(self.path, self._token)

    def _take_back(self, reply: bytes | None) -> None:
        if reply is not None:
            self._store.post(MessageType.UNWATCH, self._payload)
