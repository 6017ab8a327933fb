"""A disk whose bytes are on a web server, and fetched as they are read: HTTP's range requests.

    activations run examples/programs/http_disk.py
    HTTP_DISK=http://server/image activations run examples/programs/http_disk.py

dom0 serves the disk; the guest has it by our front end. What goes wrong on the way to the server is
an I/O error in the guest, and dom0's log says what it was. Sockets need the wall clock. Without
HTTP_DISK the image comes from a small web server in dom0 itself.
"""

import asyncio
import os
import re
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from email import message_from_bytes
from errno import EIO
from urllib.parse import urlsplit

from activations import Domain, Scenario
from activations.drivers import block
from activations.drivers.block import ObjectDisk, devid_of
from activations.xenbus import Device, front_device, plug, unplug

http_disk = Scenario("http_disk", clock="wall")

URL = os.environ.get("HTTP_DISK", "")
IMAGE = b"Read from a disk, which got it from the web.\n" * 2000
XVDA = devid_of("xvda")
SECTOR = 512
AT_ONCE = 8
"""Connections to the server."""
PATIENCE = 10.0
"""Seconds for one of them."""

State = tuple[int, str | None]
"""A resource's size in bytes, and its ETag: the server's word for what it holds."""


class Remote:
    """What `ObjectDisk` asks for: a coroutine that gives bytes from an offset on.

    The last sector is filled up with zeroes. Raises `OSError`, which says what the server did.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.state: State = (0, None)
        self.free = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> ObjectDisk:
        """Ask the server how long the disk is."""
        self.state, _ = await self.request(0, 0)
        return ObjectDisk(self, -(-self.state[0] // SECTOR) * SECTOR)

    async def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.state[0])
        state, data = await self.request(offset, end - 1)
        if state != self.state:
            raise self.error("it has changed on the server")
        return data + bytes(length - len(data))

    async def request(self, first: int, last: int) -> tuple[State, bytes]:
        """The bytes from the first to the last, both included."""
        try:
            async with self.free, asyncio.timeout(PATIENCE):
                return await self.exchange(first, last)
        except TimeoutError:
            raise self.error(f"no answer within {PATIENCE:.0f} s") from None
        except IncompleteReadError:
            raise self.error("the answer ends too early") from None
        except (LimitOverrunError, ValueError, LookupError):
            raise self.error("the answer is no HTTP") from None

    async def exchange(self, first: int, last: int) -> tuple[State, bytes]:
        """In HTTP/1.0: an answer comes in one piece, and ends with its connection."""
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
                why = "knows no ranges" if code == "200" else f"says {code} {reason}"
                raise self.error(f"the server {why}")
            headers = message_from_bytes(rest)
            found = re.fullmatch(rf"bytes {first}-{last}/(\d+)", headers.get("Content-Range", ""))
            if found is None:
                raise self.error("the server gives other bytes, or does not say which")
            return (int(found[1]), headers["ETag"]), await reader.readexactly(last - first + 1)
        finally:
            writer.close()

    def error(self, why: str) -> OSError:
        return OSError(EIO, f"{self.url}: {why}")


@asynccontextmanager
async def server(image: bytes) -> AsyncIterator[str]:
    """A web server that has one resource, and gives ranges of it; its URL."""

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if wanted := re.search(rb"\r\nRange: bytes=(\d+)-(\d+)\r\n", head):
            first, last = map(int, wanted.groups())
            writer.write(b"HTTP/1.0 206 Partial Content\r\n")
            writer.write(b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (first, last, len(image)))
            writer.write(image[first : last + 1])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/image"


@http_disk.domain("dom0")
async def serve(xen: Domain) -> int:
    device = Device("vbd", XVDA, await xen.find("guest"), xen.domid, served_as="http-disk")
    async with nullcontext(URL) if URL else server(IMAGE) as url:
        disk = await Remote(url).open()
        await plug(xen, device)
        async with block.serve(xen, device, disk) as end:
            await end.finished()  # the guest has come, and left
        await unplug(xen, device)
    print(f"{url}: {disk.sectors} sectors")
    return disk.sectors


@http_disk.domain("guest")
async def look(xen: Domain) -> str:
    device = await front_device(xen, "vbd", XVDA)
    async with block.open(xen, device) as disk:
        data = await disk.read(0, min(disk.size, 64 << 10))
    line = data.split(b"\n")[0].decode(errors="replace")
    print(f"{disk}, and its first line: {line}")
    return line
