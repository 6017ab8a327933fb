"""A connection to an NBD server: the handshake, then requests, whose answers come in any order.

What the server says is read by a generator (`_listen`), which says how many bytes are to come next;
so there is no task that would have to be ended. Source: doc/proto.md of the Network Block Device
project: fixed newstyle handshake, NBD_OPT_GO, simple replies; no TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from errno import EIO, EPROTO, ESHUTDOWN
from os import strerror
from struct import Struct
from typing import Any, NamedTuple

from activations.abi.blkif import SECTOR_SIZE

_GREETING = Struct(">8s8sH")
_OPTION = Struct(">I8sIII")
"""The client's flags; magic, option, length of what follows; length of the export's name."""
_REPLY = Struct(">QIII")
"""Magic, option, kind, length of what follows."""
_INFO_EXPORT = Struct(">HQH")
_INFO_BLOCK_SIZE = Struct(">HIII")
_REQUEST = Struct(">IHHQQI")
"""Magic, flags, command, cookie, offset, length."""
_ANSWER = Struct(">IIQ")
"""Magic, errno, cookie."""
_GREETS, _OPTS = b"NBDMAGIC", b"IHAVEOPT"
_REPLIES, _REQUESTS, _ANSWERS = 0x3E889045565A9, 0x25609513, 0x67446698
_FIXED_NEWSTYLE, _GO, _ACK, _INFO, _ERROR = 1, 7, 1, 3, 1 << 31
_EXPORT, _BLOCK_SIZE = 0, 3
READ_ONLY, CAN_FLUSH, CAN_TRIM = 2, 4, 32
READ, WRITE, _DISCONNECT, FLUSH, TRIM = range(5)
_LOST = "the connection was lost"
_LONGEST_REPLY = 64 << 10
_LONGEST_REQUEST = 32 << 20
"""Bytes to be read or written, where the server says nothing else."""
_REFUSALS = {
    _ERROR | 1: "does not know NBD_OPT_GO: it is older than 2017",
    _ERROR | 2: "does not let this client in",
    _ERROR | 5: "speaks by TLS alone, which is not spoken here",
    _ERROR | 6: "has no such export",
    _ERROR | 7: "is about to end",
}


class NbdError(OSError):
    """The server refused a request, with its errno; or it cannot be used: `NbdLost`."""


class NbdLost(NbdError):
    """The server is gone, does not answer, does not give the export, or does not speak NBD."""


class Export(NamedTuple):
    """What the server says of the disk."""

    size: int
    """Bytes."""
    flags: int
    unit: int
    """Bytes that requests are multiples of."""
    longest: int
    """Bytes that are read or written at once, at most."""


class Connection(asyncio.Protocol):
    """One connection: the handshake, then requests, whose answers come in any order."""

    def __init__(self, export: str) -> None:
        self.ready: asyncio.Future[Export] = asyncio.get_running_loop().create_future()
        self.why: str = ""
        """Why it cannot be used any more."""
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._talk = self._listen(export.encode())
        self._wants = next(self._talk)
        self._asked: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self._cookie = 0

    def ask(self, command: int, offset: int, length: int, data: bytes) -> asyncio.Future[bytes]:
        """The answer. One that is cancelled is passed over when it comes."""
        if self.why or self._transport is None or self._transport.is_closing():
            # `connection_lost` comes a turn after the loss. In between, `writelines` of many a
            # CPython (gh-136234) leaves the closed socket's number watched, to fail its next owner.
            raise NbdLost(EIO, self.why or _LOST)
        self._cookie += 1
        done: asyncio.Future[bytes] = self.ready.get_loop().create_future()
        self._asked[self._cookie] = (length if command == READ else 0, done)
        request = _REQUEST.pack(_REQUESTS, 0, command, self._cookie, offset, length)
        self._transport.writelines((request, data))
        return done

    def close(self) -> None:
        """Tell the server, as far as it listens, and end."""
        if self._transport is not None and not self.why:
            if self.ready.done():
                self._transport.write(_REQUEST.pack(_REQUESTS, 0, _DISCONNECT, 0, 0, 0))
            self._transport.close()
        self.fail("the disk was closed")

    def fail(self, why: str) -> None:
        """It is lost: all that wait are told."""
        self.why = self.why or why
        asked, self._asked = self._asked, {}
        waiting: list[asyncio.Future[Any]] = [self.ready, *(done for _, done in asked.values())]
        for future in waiting:
            if not future.done():
                future.set_exception(NbdLost(EIO, self.why))
                future.exception()  # seen, though the one that waited was cancelled at this moment
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(f"{_LOST}: {error}" if error else _LOST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while len(self._received) >= self._wants and not self.why:
                piece = bytes(self._received[: self._wants])
                del self._received[: self._wants]
                self._wants = self._talk.send(piece)
        except NbdLost as error:
            self.fail(error.strerror or "")

    # What the server says: a generator of how many bytes are to come next

    def _listen(self, export: bytes) -> Generator[int, bytes, None]:
        greets, opts, flags = _GREETING.unpack((yield _GREETING.size))
        _expect(greets == _GREETS and opts == _OPTS and flags & _FIXED_NEWSTYLE)
        assert self._transport is not None
        ask = _OPTION.pack(_FIXED_NEWSTYLE, _OPTS, _GO, len(export) + 8, len(export))
        self._transport.writelines((ask, export, Struct(">HH").pack(1, _BLOCK_SIZE)))
        size, flags, least, longest = -1, 0, 1, _LONGEST_REQUEST
        while True:
            magic, option, kind, length = _REPLY.unpack((yield _REPLY.size))
            _expect(magic == _REPLIES and option == _GO and length <= _LONGEST_REPLY)
            data = yield length
            if kind == _ACK:
                break
            if kind & _ERROR:
                said = f" ({data.decode(errors='replace')})" if data else ""
                raise NbdLost(EIO, f"the server {_REFUSALS.get(kind, 'refuses')}{said}")
            about = int.from_bytes(data[:2], "big") if kind == _INFO else None
            if about == _EXPORT and _expect(length == _INFO_EXPORT.size):
                _, size, flags = _INFO_EXPORT.unpack(data)
            elif about == _BLOCK_SIZE and _expect(length == _INFO_BLOCK_SIZE.size):
                _, least, _, longest = _INFO_BLOCK_SIZE.unpack(data)
        _expect(size >= 0)
        self.ready.set_result(_fit(size, flags, least, longest))
        while True:
            magic, number, cookie = _ANSWER.unpack((yield _ANSWER.size))
            _expect(magic == _ANSWERS and cookie in self._asked)
            length, done = self._asked[cookie]
            data = yield 0 if number else length
            del self._asked[cookie]
            if done.done():
                continue  # it was cancelled
            if number == ESHUTDOWN:
                done.set_exception(NbdLost(number, "the server is about to end"))
            elif number:
                done.set_exception(NbdError(number, f"the server says: {strerror(number)}"))
            else:
                done.set_result(data)


def _fit(size: int, flags: int, least: int, longest: int) -> Export:
    unit = SECTOR_SIZE if least <= SECTOR_SIZE else 4096
    longest = min(longest, _LONGEST_REQUEST) // unit * unit
    if not size or size % unit:
        raise NbdLost(
            EIO, f"its disk has {size} bytes: it must be 1 or more sectors of {unit} bytes"
        )
    if least > unit or not longest:
        raise NbdLost(EIO, f"its disk has blocks of {least} bytes: they must be of 4096 at most")
    return Export(size, flags, unit, longest)


def _expect(fits: object) -> bool:
    if not fits:
        raise NbdLost(EPROTO, "the server does not speak NBD (fixed newstyle)")
    return True
