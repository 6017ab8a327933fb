"""A disk whose bytes are on a web server, and fetched as they are read: HTTP's range requests.

    disk = await WebSource("https://server/disk.img").open()

In HTTP/1.0: each answer comes in one piece, and ends with its connection. A resource that becomes
another one while it is served, by its length or by what the server says of it, fails the reads.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import IncompleteReadError, LimitOverrunError
from email import message_from_bytes
from errno import EIO
from typing import NamedTuple
from urllib.parse import urlsplit

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import ObjectDisk

AT_ONCE = 8
"""Connections to the server."""
PATIENCE = 10.0
"""Seconds for one of them."""


class State(NamedTuple):
    """A resource, by the server's word."""

    size: int
    """Bytes."""
    version: str | None
    """Its ETag, or else when it was last modified; None where the server says neither."""


class WebSource:
    """What `ObjectDisk` asks for: a coroutine that gives bytes from an offset on.

    The last sector is filled up with zeroes. Raises `OSError` (EIO, or what the network says) with
    the URL and what the server did.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._state = State(0, None)
        self._free = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> ObjectDisk:
        """Ask the server how long the disk is."""
        self._state, _ = await self._request(0, 0)
        return ObjectDisk(self, -(-self._state.size // SECTOR_SIZE) * SECTOR_SIZE)

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on, for `ObjectDisk`."""
        end = min(offset + length, self._state.size)
        state, data = await self._request(offset, end - 1)
        if state != self._state:
            raise self._error("it has changed on the server")
        return data + bytes(length - len(data))

    async def _request(self, first: int, last: int) -> tuple[State, bytes]:
        """The bytes from the first to the last, both included."""
        try:
            async with self._free, asyncio.timeout(PATIENCE):
                return await self._exchange(first, last)
        except TimeoutError:
            raise self._error(f"no answer within {PATIENCE:.0f} s") from None
        except IncompleteReadError:
            raise self._error("the answer ends too early") from None
        except (LimitOverrunError, ValueError):
            raise self._error("the answer is not HTTP") from None

    async def _exchange(self, first: int, last: int) -> tuple[State, bytes]:
        url = urlsplit(self.url)
        tls = True if url.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            url.hostname, url.port or (443 if tls else 80), ssl=tls
        )
        try:
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            lines = (f"GET {path} HTTP/1.0", f"Host: {url.netloc}", f"Range: bytes={first}-{last}")
            writer.write("\r\n".join((*lines, "", "")).encode())
            status, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            _, code, reason = status.decode("ascii").split(maxsplit=2)
            if code != "206":
                does = "does not serve ranges" if code == "200" else f"says {code} {reason}"
                raise self._error(f"the server {does}")
            headers = message_from_bytes(rest)
            found = re.fullmatch(rf"bytes {first}-{last}/(\d+)", headers.get("Content-Range", ""))
            if found is None:
                raise self._error("the server gives other bytes, or does not say which")
            version = headers.get("ETag") or headers.get("Last-Modified")
            return State(int(found[1]), version), await reader.readexactly(last - first + 1)
        finally:
            writer.close()

    def _error(self, why: str) -> OSError:
        return OSError(EIO, f"{self.url}: {why}")
