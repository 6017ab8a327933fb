"""The file: what a domain took in, as it took it in.

    16 bytes    b"activations rec" and the version, a byte
    frames      length u32, CRC-32 u32 (both little-endian), then as many bytes: zlib of JSON

The first frame is the header, an object. Each further one is a list of events, in their order. The
last event of the last frame is `["end", HOW]`; a file without it was cut short. Bytes are base64.

An event is `[KIND, ARGUMENTS, ANSWER]`, or `[KIND, ARGUMENTS, null, ERROR]` for what was refused.
Those that most are, are shorter (`written`, `whole`):

    INTEGER     the lower half's clock, in nanoseconds since the one before
    "block"     nothing was ready but ports, where the lower half waited; "poll": where it looked
    "demux3"    port 3 alone had fired
    "notify3"   port 3 was sent to
    "read"      bytes of a page were as they were last seen there, or written by this domain
"""

from __future__ import annotations

import json
import struct
import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activations.errors import ActivationsError

VERSION = 1
MAGIC = b"activations rec"
_FRAME = struct.Struct("<II")
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
"""What is noted is made of what was just said: nothing of it holds itself."""
FULL = 4096
"""Events in a frame."""

Header = dict[str, Any]


class RecordingError(ActivationsError):
    """A recording cannot be read, or something cannot be recorded."""


class Writer:
    """Writes a recording through `write`, a frame at a time."""

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write = write
        write(MAGIC + bytes([VERSION]))
        self._frame(header)

    def events(self, events: list[Any]) -> None:
        self._frame(events)

    def _frame(self, content: Any) -> None:
        data = zlib.compress(_ENCODER.encode(content).encode(), 1)
        self._write(_FRAME.pack(len(data), zlib.crc32(data)) + data)


def is_recording(path: Path) -> bool:
    """Whether this file says that it is one, of whatever version."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> tuple[Header, list[Any]]:
    """A recording's header and events, the end among them.

    Raises `RecordingError` for what is none, is of another version, damaged, or cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    if not data.startswith(MAGIC) or len(data) == len(MAGIC):
        raise RecordingError(f"{path} is not a recording: `activations run --record` makes one")
    version = data[len(MAGIC)]
    if version != VERSION:
        raise RecordingError(
            f"{path} is a recording of version {version}, this reads version {VERSION}: "
            "record anew, or replay it with the activations that made it"
        )
    header, *frames = _frames(path, data, len(MAGIC) + 1) or [None]
    events = [event for frame in frames if isinstance(frame, list) for event in frame]
    if not isinstance(header, dict) or not events or not _is_end(events[-1]):
        raise RecordingError(f"{path} has no end: the run was killed, or still goes on")
    return header, events


def _is_end(event: Any) -> bool:
    return isinstance(event, list) and event[:1] == ["end"]


def _frames(path: Path, data: bytes, at: int) -> list[Any]:
    found: list[Any] = []
    while at < len(data):
        if at + _FRAME.size > len(data):
            break
        length, checksum = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        piece = data[at : at + length]
        if len(piece) < length:
            break
        if zlib.crc32(piece) != checksum:
            raise RecordingError(f"{path} is damaged: at byte {at} its checksum is wrong")
        try:
            found.append(json.loads(zlib.decompress(piece)))
        except (ValueError, RecursionError, zlib.error):
            raise RecordingError(
                f"{path} is damaged: what begins at byte {at} is not a frame"
            ) from None
        at += length
    else:
        return found
    raise RecordingError(f"{path} was cut short in its frame {len(found)}: copy it again")


def whole(event: Any) -> list[Any]:
    """An event of any of these forms, in the long one."""
    if isinstance(event, int):
        return ["time", [], event]
    if isinstance(event, str):
        kind = event.rstrip("0123456789")
        port = [int(event[len(kind) :])] if kind != event else []
        return [kind, [], port] if kind == "demux" else [kind, port, None]
    return list(event)


def text(data: bytes) -> str:
    """Bytes as JSON has them."""
    return b2a_base64(data, newline=False).decode()


def octets(said: str) -> bytes:
    """And back."""
    return a2b_base64(said)
