"""The disk over HTTP among the examples, before a web server that can do everything wrong."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from types import ModuleType
from typing import Any

import pytest
from support.pace import patience
from support.places import EXAMPLES

from activations import Domain, scenario
from activations.drivers import block
from activations.drivers.block import web
from activations.drivers.block.disk import Disk
from activations.drivers.block.errors import DiskError
from activations.xenbus import front_device
from xen_sim import Machine

EXAMPLE = EXAMPLES / "programs" / "http_disk.py"
IMAGE = Random(1).randbytes(100_000)
"""No whole number of sectors."""
SECTORS = 196

Answer = Callable[[int, int], bytes | None]
"""What the server answers when asked for the bytes from the first to the last; None is nothing."""


def proper(first: int, last: int, image: bytes = IMAGE, etag: str = '"one"') -> bytes:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{len(image)}\r\n"
    return f"{head}ETag: {etag}\r\n\r\n".encode() + image[first : last + 1]


WRONG: dict[str, tuple[Answer, str]] = {
    "not found": (lambda a, z: b"HTTP/1.1 404 Not Found\r\n\r\n", "the server says 404 Not Found"),
    "no ranges": (
        lambda a, z: b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE,
        "the server does not serve ranges",
    ),
    "short": (lambda a, z: proper(a, z)[:-1], "the answer ends too early"),
    "cut in its head": (lambda a, z: proper(a, z)[:40], "the answer ends too early"),
    "nothing at all": (lambda a, z: b"", "the answer ends too early"),
    "silent": (lambda a, z: None, "no answer within 0 s"),
    "no HTTP": (lambda a, z: b"\xff\xfe\r\n\r\n", "the answer is not HTTP"),
    "no end of its head": (lambda a, z: b"HTTP/1.0 206 OK\r\n" * 9999, "the answer is not HTTP"),
    "other bytes": (lambda a, z: proper(a + 1, z + 1), "the server gives other bytes"),
    "which bytes": (lambda a, z: b"HTTP/1.0 206 OK\r\n\r\n" + IMAGE, "or does not say which"),
    "another image": (lambda a, z: proper(a, z, etag='"two"'), "it has changed on the server"),
    "a longer image": (lambda a, z: proper(a, z, IMAGE * 2), "it has changed on the server"),
}


class Server:
    """A web server with one image; how it answers can change."""

    def __init__(self) -> None:
        self.answer: Answer = proper
        self.asked: list[str] = []
        self.open = self.most = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        wanted = re.search(r"\r\nRange: bytes=(\d+)-(\d+)\r\n", head)
        assert wanted is not None
        said = self.answer(int(wanted[1]), int(wanted[2]))
        if said is None:
            await reader.read()
        else:
            writer.write(said)
        self.open -= 1
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as listening:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/a/disk?of=mine"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    scenario.load(str(EXAMPLE))
    return sys.modules["scenario_http_disk"]


def using(example: Any, server: Server, use: Callable[[Disk], Awaitable[object]]) -> None:
    """Have `use` do with the disk in the guest what it likes, while dom0 serves it."""

    async def dom0(xen: Domain) -> None:
        async with server.listening() as example.URL, asyncio.timeout(patience(30)):
            assert await example.serve(xen) == SECTORS

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", 51712)
        async with asyncio.timeout(patience(30)), block.open(xen, device) as disk:
            await use(disk)

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_what_the_guest_reads_is_what_the_server_has(example: ModuleType) -> None:
    server = Server()

    async def use(disk: Disk) -> None:
        assert disk.read_only
        assert await disk.read(0, disk.size) == IMAGE + bytes(SECTORS * 512 - len(IMAGE))
        assert await disk.read(disk.size - 512, 512) == IMAGE[195 * 512 :] + bytes(352)
        pieces = await asyncio.gather(*(disk.read(at * 512, 512) for at in range(100)))
        assert b"".join(pieces) == IMAGE[: 100 * 512]

    using(example, server, use)
    assert all(asked.startswith("GET /a/disk?of=mine HTTP/1.0\r\n") for asked in server.asked)
    assert all("\r\nHost: 127.0.0.1:" in asked for asked in server.asked)
    assert 1 < server.most <= web.AT_ONCE, "side by side, and not more than that"


@pytest.mark.parametrize("wrong", WRONG)
def test_what_goes_wrong_is_an_io_error_there_and_is_said_here(
    wrong: str,
    example: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the disk is as good as ever when the server is."""
    server = Server()
    answer, said = WRONG[wrong]

    async def use(disk: Disk) -> None:
        monkeypatch.setattr(web, "PATIENCE", 0.2 if wrong == "silent" else 20)
        server.answer = answer
        with pytest.raises(DiskError) as failed:
            await disk.read(4096, 4096)
        assert failed.value.errno == errno.EIO
        server.answer = proper
        monkeypatch.setattr(web, "PATIENCE", 20)
        assert await disk.read(4096, 4096) == IMAGE[4096:8192]

    with caplog.at_level(logging.WARNING, "activations"):
        using(example, server, use)
    (record,) = caplog.records
    assert vars(record)["domain"] == "dom0"
    assert said in vars(record)["reason"]
    assert "/a/disk?of=mine" in vars(record)["reason"]


def test_a_server_that_goes_away_is_an_io_error(
    example: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(Server):
        """Says how long the image is, and closes."""

        async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
            await super().serve(reader, writer)
            self.listener.close()

        @asynccontextmanager
        async def listening(self) -> AsyncIterator[str]:
            self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            async with self.listener:
                yield f"http://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}/"

    async def use(disk: Disk) -> None:
        with pytest.raises(DiskError, match="Input/output error"):
            await disk.read(0, 512)

    using(example, Gone(), use)
    (record,) = caplog.records
    assert "Connect call failed" in vars(record)["reason"]


@pytest.mark.parametrize("wrong", ["not found", "no ranges", "nothing at all", "which bytes"])
def test_a_disk_that_cannot_be_opened_is_not_offered(wrong: str, example: ModuleType) -> None:
    server = Server()
    server.answer, said = WRONG[wrong]

    async def use(disk: Disk) -> None:
        raise AssertionError("there is none")

    with pytest.raises(OSError, match=said):
        using(example, server, use)
