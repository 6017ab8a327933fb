"""Messages on a line that others write to as well.

A guest's console carries its kernel's words and the agent's messages alike. A message is one
line: a record separator, a checksum of eight hexadecimal digits, a JSON object in ASCII. All else
is noise, handed on as such: a panic's last words are in it. Sans-I/O: bytes in, messages out.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

Message = dict[str, Any]

MARK = b"\x1e"
CHECKSUM = 8
LONGEST = 1 << 20
"""Bytes of a line; a longer one is noise."""
CHUNK = 24 << 10
"""Bytes of a file in one message: a guest's console moves some 40 KB a second."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as its line."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return b"%s%08x%s\n" % (MARK, zlib.crc32(body), body)


def pack(data: bytes) -> str:
    """Bytes as text for a message, compressed."""
    return base64.b64encode(zlib.compress(data, 1)).decode("ascii")


def unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


class Decoder:
    """Takes bytes as they come; gives messages (dict) and noise (a line of bytes), in order."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.damaged: int = 0
        """Messages begun whose checksum or form was wrong; they were given as noise."""

    def feed(self, data: bytes) -> Iterator[Message | bytes]:
        self._rest += data
        while (end := self._rest.find(b"\n")) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            yield from self._line(line)
        if len(self._rest) > LONGEST:
            line = bytes(self._rest)
            self._rest.clear()
            yield line

    def _line(self, line: bytes) -> Iterator[Message | bytes]:
        noise, mark, body = line.rpartition(MARK)
        if mark and (message := self._message(body)) is not None:
            if noise:
                yield noise
            yield message
        else:
            yield line.rstrip(b"\r")

    def _message(self, text: bytes) -> Message | None:
        body = text[CHECKSUM:].rstrip(b"\r")
        try:
            if int(text[:CHECKSUM], 16) == zlib.crc32(body):
                message = json.loads(body)
                if isinstance(message, dict):
                    return message
        except ValueError:
            pass
        self.damaged += 1
        return None
