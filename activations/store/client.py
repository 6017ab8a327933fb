"""The client: many tasks, one connection, replies matched by req_id.

Requests leave in the order in which they were made, each whole: a writer task exists while there
is something to send, so that cancelling a requester cannot tear a message in two. One reader task
hands replies to those who wait and watch events to their watches. A cancelled request keeps its
req_id until its reply has come; if the request had left something behind in xenstored (a watch, a
transaction), its `undo` then takes it back.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from activations.abi.xs_wire import ERRORS, OXENSTORED_ERRORS, PAYLOAD_MAX, MessageType
from activations.store.errors import StoreClosed, StoreError
from activations.store.nodes import Nodes, Undo
from activations.store.transaction import Transaction
from activations.store.watch import Watch
from activations.store.wire import REPLY_MAX, Decoder, Message, join, strings, text

if TYPE_CHECKING:
    from types import TracebackType

    from activations.lower import StoreConnection

T = TypeVar("T")

_UNSEEN = {errno.ENOENT, errno.EACCES}
_U32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Waiter:
    kind: MessageType
    path: str
    reply: asyncio.Future[bytes] | None
    """None where nobody wants to know."""
    undo: Undo | None


class Store(Nodes):
    """xenstore as this domain sees it, over a connection it takes over.

    `async with Store(connection) as store:`, or `await store.aclose()` in the end. Works on any
    asyncio loop. Its tasks start with the first request.
    """

    def __init__(self, connection: StoreConnection) -> None:
        self.watches: dict[str, Watch] = {}
        """The watches that are set, by token."""
        self.closed = ""
        """Why nothing goes any more; empty while the connection stands."""
        self._connection = connection
        self._waiters: dict[int, _Waiter] = {}
        self._req_id = 0
        self._tokens = 0
        self._outbox: deque[tuple[int, bytes]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = self.closed or f"{len(self._waiters)} requests under way"
        return f"<Store: {state}, {len(self.watches)} watches>"

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; whoever still waits gets `StoreClosed`. Twice is harmless."""
        self.lose("the store was closed")
        tasks = [task for task in (self._reader, self._writer) if task is not None]
        self._reader = self._writer = None
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._connection.close()

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
                    if error.errno not in _UNSEEN:
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
            came = reply.done() and not reply.cancelled()  # in this very turn, too late
            if came and not reply.exception() and undo:
                undo(reply.result())
            raise

    def post(self, kind: MessageType, payload: bytes, *, tx_id: int = 0) -> None:
        """Send a request whose reply nobody waits for."""
        if not self.closed:
            self._submit(payload, tx_id, _Waiter(kind, "", None, None))

    def _submit(self, payload: bytes, tx_id: int, waiter: _Waiter) -> None:
        req_id = self._new_req_id()
        self._waiters[req_id] = waiter
        self._outbox.append((req_id, Message(waiter.kind, payload, req_id, tx_id).encode()))
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="xenstore reader")
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="xenstore writer")

    def _new_req_id(self) -> int:
        while True:
            self._req_id = (self._req_id + 1) & _U32
            if self._req_id not in self._waiters:
                return self._req_id

    async def _write(self) -> None:
        while self._outbox:
            req_id, message = self._outbox.popleft()
            try:
                await self._connection.send(message)
            except Exception as error:  # whatever it is belongs to whoever asked
                if waiter := self._waiters.pop(req_id, None):
                    number = getattr(error, "errno", None) or errno.EIO
                    refusal = StoreError(number, waiter.kind, waiter.path, f"not sent: {error}")
                    refusal.__cause__ = error
                    _fail(waiter, refusal)
        self._writer = None

    # Replies

    async def _read(self) -> None:
        decoder = Decoder(REPLY_MAX)
        try:
            while data := await self._connection.receive():
                for message in decoder.feed(data):
                    self._dispatch(message)
        except Exception as error:  # whatever it is, those who wait must be told
            self.lose(f"{type(error).__name__}: {error}", error)
        else:
            self.lose("xenstored went away")

    def _dispatch(self, message: Message) -> None:
        if message.kind == MessageType.WATCH_EVENT:
            path, token, *_ = strings(message.payload)
            if watch := self.watches.get(token):
                watch.fire(path)
        elif waiter := self._waiters.pop(message.req_id, None):
            _answer(waiter, message)

    def lose(self, why: str, cause: Exception | None = None) -> None:
        """The connection is gone: all who wait, and all who ask from now on, get `StoreClosed`."""
        self.closed = self.closed or why
        self._outbox.clear()
        if self._writer:
            self._writer.cancel()  # it may wait for room that nobody will make
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            closed = StoreClosed(waiter.kind, waiter.path, self.closed)
            closed.__cause__ = cause
            _fail(waiter, closed)
        for watch in self.watches.values():
            watch.wake()


def _answer(waiter: _Waiter, message: Message) -> None:
    if message.kind == waiter.kind:
        if waiter.reply and not waiter.reply.done():
            waiter.reply.set_result(message.payload)
        elif waiter.undo:
            waiter.undo(message.payload)
    elif message.kind == MessageType.ERROR:
        name = text(message.payload.rstrip(b"\0"))
        number = (ERRORS | OXENSTORED_ERRORS).get(name, errno.EIO)
        _fail(waiter, StoreError(number, waiter.kind, waiter.path, "" if name in ERRORS else name))
    else:
        detail = f"answered by a message of type {message.kind}"
        _fail(waiter, StoreError(errno.EIO, waiter.kind, waiter.path, detail))


def _fail(waiter: _Waiter, error: StoreError) -> None:
    if waiter.reply and not waiter.reply.done():
        waiter.reply.set_exception(error)
