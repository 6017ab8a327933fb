"""The client: many tasks, one connection, replies matched by req_id.

Requests leave in the order in which they were made, each whole. What comes is handed on by what the
loop calls back: replies to those who wait, watch events to their watches. There is no task in that.
Who ends a program cancels its tasks, all of them, and those have to clean up after themselves: a
reader among them would be gone when they ask it for the last answers.

A cancelled request keeps its req_id until its reply has come; if the request had left something
behind in xenstored (a watch, a transaction), its `undo` then takes it back.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from activations.abi.xs_wire import (
    ERRORS,
    HEADER,
    OXENSTORED_ERRORS,
    PAYLOAD_MAX,
    MessageType,
)
from activations.store.errors import UNSEEN, StoreClosed, StoreError, refusal
from activations.store.nodes import Nodes, Undo
from activations.store.transaction import Transaction
from activations.store.turns import Turns
from activations.store.watch import Watch
from activations.store.wire import REPLY_MAX, Decoder, Message, join, strings, text

if TYPE_CHECKING:
    from activations.lower import StoreConnection

T = TypeVar("T")

_U32 = 0xFFFFFFFF


class _Waiter(NamedTuple):
    kind: MessageType
    path: str
    reply: asyncio.Future[bytes] | None
    """None where the reply is of no interest."""
    undo: Undo | None


class Store(Nodes):
    """xenstore as this domain sees it, over a connection it takes over.

    `async with Store(connection) as store:`, or `store.close()` in the end. Works on any asyncio
    loop: on the one that runs when the first request is made. `owner` is whose store it is, in
    words, for errors.
    """

    def __init__(self, connection: StoreConnection, *, owner: str = "this domain") -> None:
        self.watches: dict[str, Watch] = {}
        """The watches that are set, by token."""
        self.closed: str = ""
        """Why nothing goes any more; empty while the connection stands."""
        self.gone: bool = False
        """Nothing goes any more, and it was not closed here: xenstored went away."""
        self.turns: Turns = Turns()
        """Whose turn it is to open a transaction."""
        self._connection: StoreConnection | None = connection
        """None once it is closed: it knows whom it tells, and neither is to keep the other."""
        self._owner = owner
        self._decoder = Decoder(REPLY_MAX)
        self._listening = False
        self._waiters: dict[int, _Waiter] = {}
        self._req_id = 0
        self._tokens = 0

    def __repr__(self) -> str:
        state = self.closed or f"{len(self._waiters)} requests under way"
        return f"<Store: {state}, {len(self.watches)} watches>"

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self, why: str = "the store was closed") -> None:
        """Close the connection: all who wait, and all who ask from now on, get `StoreClosed`. Twice
        is harmless."""
        self._end(why)

    # Beyond single nodes

    def watch(self, path: str, *, arrived: asyncio.Event | None = None) -> Watch:
        """Changes at and below `path`, or `@introduceDomain` and `@releaseDomain`: see `Watch`."""
        self._tokens += 1
        return Watch(self, path, str(self._tokens), arrived)

    def transaction(self) -> Transaction:
        """A transaction that is tried once: see `Transaction`."""
        return Transaction(self)

    async def transact(self, change: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `change` in a transaction, over again until its commit meets no conflict.

        `change` may run several times: it should do nothing but look at the store and change it.
        """
        while True:
            try:
                async with self.transaction() as transaction:
                    result = await change(transaction)
            except StoreError as error:
                conflict = error.kind is MessageType.TRANSACTION_END
                if not (conflict and error.errno == errno.EAGAIN):
                    raise
            else:
                return result

    async def wait_for(self, path: str, predicate: Callable[[str], bool] | None = None) -> str:
        """Wait until the node exists, can be read and fulfils `predicate`; give its value.

        A node that this domain may not read counts as not there yet: its parents may be closed
        until the toolstack has made it. Bound the wait with `asyncio.timeout`.
        """
        async with self.watch(path) as events:
            async for _ in events:
                try:
                    value = await self.read(path)
                except StoreError as error:
                    if error.errno not in UNSEEN:
                        raise
                    continue
                if predicate is None or predicate(value):
                    return value
        raise AssertionError("a watch does not end by itself")

    async def get_domain_path(self, domid: int) -> str:
        """The home of a domain: `/local/domain/3`, whether or not there is a domain 3."""
        reply = await self.request(MessageType.GET_DOMAIN_PATH, join(str(domid)), path=str(domid))
        return strings(reply)[0]

    # Requests

    async def request(
        self,
        kind: MessageType,
        payload: bytes = b"\0",
        *,
        path: str = "",
        undo: Undo | None = None,
        tx_id: int = 0,
    ) -> bytes:
        """Send any request as it is; give its reply's payload. `path` is for the error alone."""
        if self.closed:
            raise StoreClosed(kind, path, self.closed)
        if len(payload) > PAYLOAD_MAX:
            # xenstored would drop the whole connection for it
            raise StoreError(errno.E2BIG, kind, path, f"{len(payload)} bytes of {PAYLOAD_MAX}")
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._submit(payload, tx_id, _Waiter(kind, path, reply, undo))
        try:
            return await reply
        except asyncio.CancelledError:
            if reply.done() and not reply.cancelled():  # it came in this very turn, too late
                answer = None if reply.exception() else reply.result()
                if undo:
                    undo(answer)
            raise

    def post(self, kind: MessageType, payload: bytes, *, tx_id: int = 0) -> None:
        """Send a request whose reply is not waited for."""
        if not self.closed:
            self._submit(payload, tx_id, _Waiter(kind, "", None, None))

    def _submit(self, payload: bytes, tx_id: int, waiter: _Waiter) -> None:
        connection = self._connection
        assert connection is not None
        if not self._listening:
            self._listening = True
            connection.start(self)
        req_id = self._new_req_id()
        self._waiters[req_id] = waiter
        connection.send(Message(waiter.kind, payload, req_id, tx_id).encode())

    def _new_req_id(self) -> int:
        while True:
            self._req_id = (self._req_id + 1) & _U32
            if self._req_id not in self._waiters:
                return self._req_id

    # What the connection tells

    def received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            for message in self._decoder.feed(data):
                self._dispatch(message)
        except Exception as error:  # whatever it is, those who wait must be told
            self.lost(error)

    def refused(self, message: bytes, error: Exception) -> None:
        """A message could not be sent: its request fails, and no other."""
        _, req_id, _, _ = HEADER.unpack_from(message)
        if waiter := self._waiters.pop(req_id, None):
            number = getattr(error, "errno", None) or errno.EIO
            failure = refusal(
                number, waiter.kind, waiter.path, f"not sent: {error}", owner=self._owner
            )
            failure.__cause__ = error
            _fail(waiter, failure)

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.gone = self.gone or not self.closed
        if error is None:
            self._end("xenstored went away")
        else:
            self._end(f"{type(error).__name__}: {error}", error)

    def _dispatch(self, message: Message) -> None:
        if message.kind == MessageType.WATCH_EVENT:
            path, token, *_ = strings(message.payload)
            if watch := self.watches.get(token):
                watch.fire(path)
        elif waiter := self._waiters.pop(message.req_id, None):
            self._answer(waiter, message)

    def _answer(self, waiter: _Waiter, message: Message) -> None:
        kind, path = waiter.kind, waiter.path
        if message.kind == kind:
            if waiter.reply and not waiter.reply.done():
                waiter.reply.set_result(message.payload)
            elif waiter.undo:
                waiter.undo(message.payload)
        elif message.kind == MessageType.ERROR:
            name = text(message.payload.rstrip(b"\0"))
            number = (ERRORS | OXENSTORED_ERRORS).get(name, errno.EIO)
            detail = "" if name in ERRORS else name
            _fail(waiter, refusal(number, kind, path, detail, owner=self._owner))
        else:
            detail = f"answered by a message of type {message.kind}"
            _fail(waiter, StoreError(errno.EIO, kind, path, detail))

    def _end(self, why: str, cause: Exception | None = None) -> None:
        """Nothing goes any more: tell all who wait."""
        self.closed = self.closed or why
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            closed = StoreClosed(waiter.kind, waiter.path, self.closed)
            closed.__cause__ = cause
            _fail(waiter, closed)
        for watch in self.watches.values():
            watch.wake()


def _fail(waiter: _Waiter, error: StoreError) -> None:
    if waiter.reply and not waiter.reply.done():
        waiter.reply.set_exception(error)
    elif waiter.undo:
        waiter.undo(None)
