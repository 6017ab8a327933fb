"""A disk whose bytes are on a web server, and fetched as they are read: HTTP's range requests.

    async with WebSource("https://server/disk.img") as disk:
        async with block.serve(xen, device, disk) as end: ...

HTTP is httpx's: connections that are kept, redirects, proxies, TLS. A resource that becomes another
one while it is served, by its length or by what the server says of it, fails the reads.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from errno import EIO
from typing import TYPE_CHECKING, NamedTuple

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import ObjectDisk

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

AT_ONCE = 8
"""Connections to the server."""
PATIENCE = 10.0
"""Seconds for an answer."""
LARGEST = 1 << 62
"""Bytes."""


class State(NamedTuple):
    """A resource, by the server's word."""

    size: int
    """Bytes."""
    version: str | None
    """Its ETag, or else when it was last modified; None where the server says neither."""


class WebSource:
    """`async with WebSource(url) as disk:` is a disk, which can only be read, while the block runs.

    The last sector is filled up with zeroes. `https` trusts the authorities that this machine does
    (`ssl.create_default_context`; `SSL_CERT_FILE` names others). Entering the block, and reading,
    raises `OSError` (EIO) with the URL and what the server did, or the network.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._state = State(0, None)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._client: AsyncClient

    async def __aenter__(self) -> ObjectDisk:
        from httpx import AsyncClient, Limits  # a fifth of a second, which few need

        self._client = AsyncClient(
            follow_redirects=True,
            timeout=None,
            limits=Limits(max_connections=AT_ONCE),
            verify=ssl.create_default_context(),
        )
        try:
            self._state, _ = await self._request(0, 0)  # how long it is
        except BaseException:
            await self._client.aclose()
            raise
        return ObjectDisk(self, -(-self._state.size // SECTOR_SIZE) * SECTOR_SIZE)

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on, for `ObjectDisk`."""
        end = min(offset + length, self._state.size)
        state, data = await self._request(offset, end - 1)
        if state != self._state:
            raise self._error("it has changed on the server")
        return data + bytes(length - len(data))

    async def _request(self, first: int, last: int) -> tuple[State, bytes]:
        """The bytes from the first to the last, both included."""
        from httpx import HTTPError, InvalidURL

        # as they are, and not packed
        headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        try:
            async with (
                self._free,
                asyncio.timeout(PATIENCE),
                self._client.stream("GET", self.url, headers=headers) as answer,
            ):
                state = self._state_of(answer, first, last)
                return state, await self._content(answer, last - first + 1)
        except TimeoutError:
            raise self._error(f"no answer within {PATIENCE:.0f} s") from None
        except (HTTPError, InvalidURL) as error:
            raise self._error(str(error) or type(error).__name__) from error

    def _state_of(self, answer: Response, first: int, last: int) -> State:
        if answer.status_code != 206:
            says = f"says {answer.status_code} {answer.reason_phrase}".rstrip()
            raise self._error(
                f"the server {'does not serve ranges' if answer.status_code == 200 else says}"
            )
        said = answer.headers.get("Content-Range", "")
        found = re.fullmatch(rf"bytes {first}-{last}/(\d{{1,19}})", said, re.IGNORECASE)
        if found is None or int(found[1]) > LARGEST:
            raise self._error("the server gives other bytes, or does not say which")
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return State(int(found[1]), version)

    async def _content(self, answer: Response, length: int) -> bytes:
        data = bytearray()
        async for piece in answer.aiter_raw():
            data += piece
            if len(data) > length:
                raise self._error("the server gives more bytes than it says")
        if len(data) < length:
            raise self._error("the answer ends too early")
        return bytes(data)

    def _error(self, why: str) -> OSError:
        return OSError(EIO, f"{self.url}: {why}")
