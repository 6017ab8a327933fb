"""xs_wire messages out of bytes and back, without I/O.

Bytes come in pieces of any size: a ring hands over what fits, a socket what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import NamedTuple

from activations.abi.xs_wire import HEADER, PAYLOAD_MAX
from activations.store.errors import WireError

REPLY_MAX = 16 << 20
"""Bytes of a reply's payload that a client takes. The protocol says 4096; over a socket, oxenstored
answers a long listing in one message, however long. Beyond this, the stream is lost."""


class Message(NamedTuple):
    """One request, reply or event. `kind` is a plain int where no `MessageType` has the number."""

    kind: int
    payload: bytes = b""
    req_id: int = 0
    tx_id: int = 0

    def encode(self) -> bytes:
        """Header and payload. Raises `WireError` if the payload is over 4096 bytes."""
        if len(self.payload) > PAYLOAD_MAX:
            raise WireError(
                f"a payload of {len(self.payload)} bytes: xenstore takes {PAYLOAD_MAX} at most"
            )
        header = HEADER.pack(self.kind, self.req_id, self.tx_id, len(self.payload))
        return header + self.payload


class Decoder:
    """Bytes in, messages out. After a `WireError` the stream is lost: there is no way to tell
    where the next message begins. `limit` is how long a payload may be, in bytes."""

    def __init__(self, limit: int = PAYLOAD_MAX) -> None:
        self._pending = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes, one by one, so that those before a bad one still
        get their turn. Raises `WireError` at a length over the limit."""
        self._pending += data
        return self._messages()

    @property
    def in_payload(self) -> bool:
        """Whether the next message's header is there."""
        return len(self._pending) >= HEADER.size

    @property
    def missing(self) -> int:
        """How many bytes more complete a message's header, or the payload that it announces."""
        length = int(HEADER.unpack_from(self._pending)[3]) if self.in_payload else 0
        return HEADER.size + length - len(self._pending)

    def _messages(self) -> Iterator[Message]:
        pending = self._pending
        while len(pending) >= HEADER.size:
            kind, req_id, tx_id, length = HEADER.unpack_from(pending)
            if length > self._limit:
                raise WireError(
                    f"a header announces {length} bytes: {self._limit} is the most there can be"
                )
            end = HEADER.size + length
            if len(pending) < end:
                return
            payload = bytes(pending[HEADER.size : end])
            del pending[:end]
            yield Message(kind, payload, req_id, tx_id)


def text(data: bytes) -> str:
    """xenstore's bytes as a string. UTF-8; bytes that are none survive the way back."""
    return data.decode("utf-8", "surrogateescape")


def octets(value: str | bytes | int) -> bytes:
    """A value as xenstore keeps it: text as UTF-8, a number in decimal, bytes as they are. True is
    the number 1. Raises `TypeError` for anything else: its repr is no value."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        return b"%d" % index(value)
    except TypeError:
        raise TypeError(f"{value!r} is not text, bytes or a whole number") from None


def join(*parts: str) -> bytes:
    """Strings as a payload, each ended by a NUL. Raises `ValueError` for a NUL within one."""
    payload = b"".join(octets(part) + b"\0" for part in parts)
    if payload.count(0) != len(parts):
        raise ValueError(f"xenstore's strings cannot hold a NUL: {parts!r}")
    return payload


def strings(payload: bytes) -> list[str]:
    """The strings of a payload, each of which a NUL ends; what follows the last NUL is dropped."""
    return [text(part) for part in payload.split(b"\0")[:-1]]
