"""Several changes at once, or none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from activations.abi.xs_wire import MessageType
from activations.store.errors import StoreError
from activations.store.nodes import Nodes, Undo
from activations.store.wire import join, strings

if TYPE_CHECKING:
    from types import TracebackType

    from activations.store.client import Store


class Transaction(Nodes):
    """`async with store.transaction() as t:` commits when the block is left, and drops everything
    when it is left by an exception.

    The commit raises `StoreError` with EAGAIN if another's change met this one; nothing has been
    written then. `Store.transact` begins again by itself. Watches fire at the commit.

    So many tasks of a client have transactions open at once, and the others wait for their turn:
    see `turns`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._id: int | None = None
        self._ended: Callable[[], None]

    async def __aenter__(self) -> Transaction:
        self._ended = await self._store.turns.take()
        try:
            reply = await self._store.request(MessageType.TRANSACTION_START, undo=self._drop)
        except StoreError:
            self._ended()
            raise
        self._id = _id_in(reply)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._end("T")
        else:
            with suppress(StoreError):  # what left the block matters more
                await self._end("F")

    async def request(
        self, kind: MessageType, payload: bytes = b"\0", *, path: str = "", undo: Undo | None = None
    ) -> bytes:
        """As `Store.request`, within this transaction. `RuntimeError` outside its block."""
        if self._id is None:
            raise RuntimeError("a transaction is used outside its `async with` block")
        return await self._store.request(kind, payload, path=path, undo=undo, tx_id=self._id)

    async def _end(self, verdict: str) -> None:
        try:
            await self.request(MessageType.TRANSACTION_END, join(verdict))
        finally:
            self._id = None
            self._ended()

    def _drop(self, reply: bytes | None) -> None:
        """The task that wanted it was cancelled while it began."""
        if reply is not None:
            self._store.post(MessageType.TRANSACTION_END, join("F"), tx_id=_id_in(reply))
        self._ended()


def _id_in(reply: bytes) -> int:
    return int(strings(reply)[0])
