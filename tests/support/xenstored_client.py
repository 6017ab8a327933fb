"""A client of the simulated xenstored for tests: one request, one answer, events collected."""

from __future__ import annotations

import errno as numbers

from activations.abi.xs_wire import ERRORS, MessageType
from activations.store import StoreError
from activations.store.wire import Decoder, Message, join, octets, strings
from xen_sim.xenstored import Connection, Xenstored


class Client:
    """Speaks for a domain, without a loop. `events` holds (path, token) as they came."""

    def __init__(self, xenstored: Xenstored, domid: int = 0) -> None:
        self.connection: Connection = xenstored.connect(domid)
        self.log: list[Message] = []
        self.tx_id = 0
        self._decoder = Decoder()
        self._events: list[tuple[str, str]] = []

    @property
    def events(self) -> list[tuple[str, str]]:
        """The events since the last look."""
        self.collect()
        events, self._events = self._events, []
        return events

    def collect(self) -> list[Message]:
        """Take the output; give the messages in it."""
        messages = list(self._decoder.feed(self.connection.take_output()))
        for message in messages:
            if message.kind == MessageType.WATCH_EVENT:
                path, token = strings(message.payload)
                self._events.append((path, token))
        self.log += messages
        return messages

    def ask(self, kind: MessageType, *parts: str, value: bytes = b"") -> bytes:
        """Send a request and give the reply's payload; `StoreError` for an ERROR."""
        request = Message(kind, join(*parts) + value, req_id=7, tx_id=self.tx_id)
        self.connection.receive(request.encode())
        replies = [m for m in self.collect() if m.kind != MessageType.WATCH_EVENT]
        assert len(replies) == 1, replies
        (reply,) = replies
        assert (reply.req_id, reply.tx_id) == (7, self.tx_id)
        if reply.kind == MessageType.ERROR:
            raise StoreError(ERRORS[strings(reply.payload)[0]], kind, parts[0] if parts else "")
        assert reply.kind == kind
        return reply.payload

    def read(self, path: str) -> bytes:
        return self.ask(MessageType.READ, path)

    def write(self, path: str, value: str | bytes = "") -> None:
        assert self.ask(MessageType.WRITE, path, value=octets(value)) == b"OK\0"

    def mkdir(self, path: str) -> None:
        self.ask(MessageType.MKDIR, path)

    def rm(self, path: str) -> None:
        self.ask(MessageType.RM, path)

    def list(self, path: str) -> list[str]:
        return strings(self.ask(MessageType.DIRECTORY, path))

    def perms(self, path: str) -> list[str]:
        return strings(self.ask(MessageType.GET_PERMS, path))

    def set_perms(self, path: str, *perms: str) -> None:
        self.ask(MessageType.SET_PERMS, path, *perms)

    def watch(self, path: str, token: str = "t") -> None:
        self.ask(MessageType.WATCH, path, token)

    def unwatch(self, path: str, token: str = "t") -> None:
        self.ask(MessageType.UNWATCH, path, token)

    def begin(self) -> int:
        """Start a transaction; give its number. Set `tx_id` to work in it."""
        return int(strings(self.ask(MessageType.TRANSACTION_START, ""))[0])

    def end(self, tx_id: int, verdict: str = "T") -> None:
        self.tx_id = tx_id
        try:
            self.ask(MessageType.TRANSACTION_END, verdict)
        finally:
            self.tx_id = 0


class Refusal:
    """`with Refusal("ENOENT"):` asserts that xenstored refuses so."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, StoreError), f"expected {self.name}, got {error!r}"
        assert numbers.errorcode[error.errno or 0] == self.name
        return True
