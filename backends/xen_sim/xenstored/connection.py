"""One client of xenstored: bytes in, bytes out, and what it has set up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from activations.abi.xs_wire import PAYLOAD_MAX, MessageType, RingFault
from activations.store.errors import WireError
from activations.store.wire import Decoder, Message, octets
from xen_sim.xenstored import operations
from xen_sim.xenstored.database import Transaction
from xen_sim.xenstored.tree import Caller
from xen_sim.xenstored.watches import Watch

if TYPE_CHECKING:
    from xen_sim.xenstored.server import Xenstored

_NO_TRANSACTION = 0


def nothing() -> bool:
    """A connection without a client: nothing moves."""
    return False


@dataclass(slots=True, eq=False)
class Cause:
    """A guest's request, which is outstanding until its reply and the events of it are taken."""

    connection: Connection
    untaken: int = 0


class Connection:
    """Made by `Xenstored.connect`. A domain has one; dom0 may have several, as over sockets.

    What comes out is collected until it is taken. `on_turn` is called when there may be something
    to take, and again as long as it says that something moved; `on_restart` when the domain is
    introduced again. A client that breaks the framing is not listened to any more (`broken`), and
    loses its watches, its transactions and what it had not taken; no other client notices.
    """

    def __init__(self, xenstored: Xenstored, domid: int, number: int) -> None:
        self.domid = domid
        self.number = number
        """Which connection this is, counted from the server's start."""
        self.broken: bool = False
        self.fault: RingFault = RingFault.PROTO
        """Why it is not listened to any more, once it is broken."""
        self.outstanding: int = 0
        """A guest's requests of which not all is taken that came of them."""
        self.on_turn: Callable[[], object] = nothing
        self.on_restart: Callable[[], object] = nothing
        self.watches: list[Watch] = []
        self.transactions: dict[int, Transaction] = {}
        self._xenstored = xenstored
        self._decoder = Decoder()
        self._output: deque[tuple[bytes, Cause | None]] = deque()
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
                self._xenstored.serve(between=self)
                operations.perform(self._xenstored, self, request)
        except WireError:
            self.break_off()
        self._xenstored.serve()

    @property
    def wanted(self) -> int:
        """How many bytes more complete a header, or the payload after it; at least 1."""
        return self._decoder.missing

    @property
    def in_payload(self) -> bool:
        """Whether what is wanted is of a payload."""
        return self._decoder.in_payload

    @property
    def saturated(self) -> bool:
        """So many requests are outstanding that no more should be read."""
        return self.outstanding >= self._xenstored.quota.outstanding and not self.caller.privileged

    def wake(self) -> None:
        """There may be something to do for it: it gets its turns, until nothing moves."""
        self._xenstored.busy(self)
        self._xenstored.serve()

    @property
    def next_message(self) -> bytes:
        """What the client is to be given next, which stays there until it is `taken`; empty if
        there is nothing."""
        return self._output[0][0] if self._output else b""

    def taken(self) -> None:
        """The client has all of the next message."""
        message, cause = self._output.popleft()
        self._pending_events.discard(message)
        if cause:
            cause.untaken -= 1
            if not cause.untaken:
                cause.connection.outstanding -= 1
                self._xenstored.busy(cause.connection)  # more may be read from it

    def take_output(self) -> bytes:
        """All there is to the client; empty if there is nothing."""
        output = b"".join([message for message, _ in self._output])
        self._drop_output()
        self._xenstored.serve()
        return output

    def _drop_output(self) -> None:
        while self._output:
            self.taken()

    def break_off(self) -> None:
        """Stop listening to this client, for good."""
        self.reset()
        self._drop_output()
        self.broken = True

    def lose(self) -> None:
        """Stop listening, and not for what the client said."""
        self.fault = RingFault.COMM
        self.break_off()

    def restart(self) -> None:
        """Its domain is introduced anew."""
        self.reset()
        self._drop_output()
        self._decoder = Decoder()
        self.on_restart()

    def close(self) -> None:
        """The client is gone."""
        self.break_off()
        self._xenstored.forget(self)
        self.on_turn = self.on_restart = nothing

    def reset(self) -> None:
        """Drop its watches and transactions."""
        for watch in self.watches:
            self._xenstored.watches.remove(watch)
        self.watches.clear()
        self.transactions.clear()

    # Messages

    def reply(
        self, request: Message, kind: MessageType, payload: bytes, cause: Cause | None
    ) -> None:
        """Answer a request. A payload that does not fit becomes an E2BIG error."""
        if len(payload) > PAYLOAD_MAX:
            kind, payload = MessageType.ERROR, b"E2BIG\0"
        if cause:
            self.outstanding += 1
        self._emit(Message(kind, payload, request.req_id, request.tx_id).encode(), cause)

    def send_event(self, watch: Watch, path: str, cause: Cause | None = None) -> None:
        """Tell of a change. An event that still waits to be taken is not told twice, except of
        the special paths; one that does not fit is dropped."""
        payload = octets(f"{watch.reported(path)}\0{watch.token}\0")
        if len(payload) > PAYLOAD_MAX:
            return
        event = Message(MessageType.WATCH_EVENT, payload).encode()
        if event in self._pending_events and not path.startswith("@"):
            return
        self._pending_events.add(event)
        self._emit(event, cause)

    def new_cause(self) -> Cause | None:
        """What a request is counted by, if it is a guest's."""
        return None if self.caller.privileged else Cause(self)

    def new_transaction(self, transaction: Transaction) -> int:
        """Give a transaction a number that no other open one has."""
        number = _NO_TRANSACTION
        while number == _NO_TRANSACTION or number in self.transactions:
            number = self._last_transaction = (self._last_transaction + 1) & 0xFFFFFFFF
        self.transactions[number] = transaction
        return number

    def _emit(self, message: bytes, cause: Cause | None) -> None:
        self._output.append((message, cause))
        if cause:
            cause.untaken += 1
        self._xenstored.busy(self)
