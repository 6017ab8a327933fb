"""One client of xenstored: bytes in, bytes out, and what it has set up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.abi.xs_wire import PAYLOAD_MAX, MessageType
from activations.store.errors import WireError
from activations.store.wire import Decoder, Message, octets
from xen_sim.xenstored import operations
from xen_sim.xenstored.database import Transaction
from xen_sim.xenstored.tree import Caller
from xen_sim.xenstored.watches import Watch

if TYPE_CHECKING:
    from xen_sim.xenstored.server import Xenstored

_NO_TRANSACTION = 0


class Connection:
    """Made by `Xenstored.connect`. A domain has one; dom0 may have several, as over sockets.

    What comes out is collected until it is taken, and `on_output` is called when there is
    something to take. A client that breaks the framing is not listened to any more (`broken`), and
    loses its watches, its transactions and what it had not taken; nobody else notices.
    """

    def __init__(self, xenstored: Xenstored, domid: int, number: int) -> None:
        self.domid = domid
        self.number = number
        """Which connection this is, counted from the server's start."""
        self.broken = False
        self.on_output: Callable[[], None] = lambda: None
        self.watches: list[Watch] = []
        self.transactions: dict[int, Transaction] = {}
        self._xenstored = xenstored
        self._decoder = Decoder()
        self._output: deque[bytes] = deque()
        self._pending_events: set[bytes] = set()
        self._last_transaction = _NO_TRANSACTION

    def __repr__(self) -> str:
        return f"<Connection {self.number} of domain {self.domid}>"

    @property
    def caller(self) -> Caller:
        return self._xenstored.caller(self.domid)

    # Bytes

    def receive(self, data: bytes) -> None:
        """Bytes from the client, in pieces of any size. Never raises, whatever they are."""
        if self.broken:
            return
        try:
            for request in self._decoder.feed(data):
                operations.perform(self._xenstored, self, request)
        except WireError:
            self.break_off()
        self._xenstored.announce()

    @property
    def saturated(self) -> bool:
        """So many messages wait to be taken that no more requests should be read."""
        full = len(self._output) >= self._xenstored.quota.outstanding
        return full and not self.caller.privileged

    def take_message(self) -> bytes:
        """The next message to the client; empty if there is none."""
        if not self._output:
            return b""
        message = self._output.popleft()
        self._pending_events.discard(message)
        return message

    def take_output(self) -> bytes:
        """All there is to the client; empty if there is nothing."""
        output = b"".join(self._output)
        self._output.clear()
        self._pending_events.clear()
        return output

    def break_off(self) -> None:
        """Stop listening to this client, for good."""
        self.reset()
        self.take_output()
        self.broken = True

    def close(self) -> None:
        """The client is gone."""
        self.break_off()
        self._xenstored.forget(self)

    def reset(self) -> None:
        """Drop its watches and transactions."""
        for watch in self.watches:
            self._xenstored.watches.remove(watch)
        self.watches.clear()
        self.transactions.clear()

    # Messages

    def reply(self, request: Message, kind: MessageType, payload: bytes) -> None:
        """Answer a request. A payload that does not fit becomes an E2BIG error."""
        if len(payload) > PAYLOAD_MAX:
            kind, payload = MessageType.ERROR, b"E2BIG\0"
        self._emit(Message(kind, payload, request.req_id, request.tx_id).encode())

    def send_event(self, watch: Watch, path: str) -> None:
        """Tell of a change. An event that still waits to be taken is not told twice, except of
        the special paths; one that does not fit is dropped."""
        payload = octets(f"{watch.reported(path)}\0{watch.token}\0")
        if len(payload) > PAYLOAD_MAX:
            return
        event = Message(MessageType.WATCH_EVENT, payload).encode()
        if event in self._pending_events and not path.startswith("@"):
            return
        self._pending_events.add(event)
        self._emit(event)

    def new_transaction(self, transaction: Transaction) -> int:
        """Give a transaction a number that no other open one has."""
        number = _NO_TRANSACTION
        while number == _NO_TRANSACTION or number in self.transactions:
            number = self._last_transaction = (self._last_transaction + 1) & 0xFFFFFFFF
        self.transactions[number] = transaction
        return number

    def _emit(self, message: bytes) -> None:
        self._output.append(message)
        self._xenstored.has_output(self)
