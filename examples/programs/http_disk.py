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
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from activations import Domain, Scenario
from activations.drivers import block
from activations.drivers.block import WebSource, devid_of
from activations.xenbus import Device, front_device, plug, unplug

http_disk = Scenario("http_disk", clock="wall")

URL = os.environ.get("HTTP_DISK", "")
IMAGE = b"Read from a disk, which got it from the web.\n" * 2000
XVDA = devid_of("xvda")


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
    async with nullcontext(URL) if URL else server(IMAGE) as url, WebSource(url) as disk:
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
