"""The NBD server among the examples, before a block device of the simulator: with a client of our
own, which speaks every option, with qemu-img and with nbdinfo."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from struct import pack, unpack
from types import ModuleType
from typing import Any

import pytest
from support.needs import leave_out
from support.pace import patience
from support.places import EXAMPLES

from activations import Domain, scenario
from activations.drivers import block
from activations.xenbus import front_device
from xen_sim import Machine

EXAMPLE = EXAMPLES / "programs" / "nbd_server.py"
ABORT, LIST, STARTTLS, INFO, GO = 2, 3, 5, 6, 7
READ, WRITE, DISC, FLUSH, TRIM = range(5)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module, on a port that the system chooses."""
    import sys

    scenario.load(str(EXAMPLE))
    module = sys.modules["scenario_nbd_server"]
    monkeypatch.setattr(module, "PORT", 0)
    return module


def serving(example: Any, use: Callable[[int], Awaitable[object]]) -> None:
    """Have `use` do with the server's port what it likes."""

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", 51712)
        async with (
            asyncio.timeout(patience(30)),
            block.open(xen, device) as disk,
            example.listening(disk, 0) as port,
        ):
            await use(port)

    machine = Machine(clock="wall")
    machine.boot("dom0", example.serve_disk)
    machine.boot("guest", guest)
    machine.run()


class Client:
    """An NBD client, from the protocol's description."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.cookies = 0

    async def option(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Ask, and give the replies: their kinds, and what is in them."""
        self.writer.write(pack(">8sII", b"IHAVEOPT", option, len(data)) + data)
        replies = []
        while not replies or (replies[-1][0] != 1 and replies[-1][0] < 1 << 31):
            magic, about, kind, length = unpack(">QIII", await self.reader.readexactly(20))
            assert (magic, about) == (0x3E889045565A9, option)
            replies.append((kind, await self.reader.readexactly(length)))
        return replies

    async def go(self, name: bytes = b"disk") -> tuple[int, int]:
        """Begin; the disk's size and flags."""
        replies = await self.option(GO, pack(">I", len(name)) + name + pack(">HH", 1, 3))
        facts = {unpack(">H", data[:2])[0]: data[2:] for kind, data in replies if kind == 3}
        assert unpack(">III", facts[3])[0] == 512, "the smallest block is a sector"
        size, flags = unpack(">QH", facts[0])
        return size, flags

    def ask(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"") -> int:
        """Send a request; give its cookie."""
        self.cookies += 1
        head = pack(">IHHQQI", 0x25609513, 0, command, self.cookies, offset, length or len(data))
        self.writer.write(head + data)
        return self.cookies

    async def answer(self, length: int = 0) -> tuple[int, int, bytes]:
        """The next answer: cookie, errno, and so many bytes if it is none."""
        magic, number, cookie = unpack(">IIQ", await self.reader.readexactly(16))
        assert magic == 0x67446698
        return cookie, number, await self.reader.readexactly(0 if number else length)

    async def do(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"") -> Any:
        """A request and its answer: the errno, or what was read."""
        cookie = self.ask(command, offset, length, data)
        told, number, read = await self.answer(length if command == READ else 0)
        assert told == cookie
        return number or read

    async def hung_up(self) -> bool:
        return await self.reader.read(1) == b""


@asynccontextmanager
async def connected(port: int, flags: int = 3) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        assert await reader.readexactly(16) == b"NBDMAGICIHAVEOPT"
        assert unpack(">H", await reader.readexactly(2)) == (3,)
        writer.write(pack(">I", flags))
        yield Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_disk_is_read_and_written_over_nbd(example: ModuleType) -> None:
    data = Random(1).randbytes(1 << 20)

    async def use(port: int) -> None:
        async with connected(port) as client:
            assert await client.go() == (64 << 20, 1 | 4 | 32)
            assert await client.do(WRITE, 4096, data=data) == b""
            assert await client.do(FLUSH) == b""
            assert await client.do(READ, 4096, len(data)) == data
            assert await client.do(TRIM, 4096, 4096) == b""
            assert await client.do(READ, 4096, 8192) == bytes(4096) + data[4096:8192]
            client.ask(DISC)
            assert await client.hung_up()

    serving(example, use)


def test_many_requests_are_under_way_at_once(example: ModuleType) -> None:
    async def use(port: int) -> None:
        async with connected(port) as client:
            await client.go(b"")
            sectors = [bytes([number]) * 512 for number in range(200)]
            asked = {client.ask(WRITE, at * 512, data=each) for at, each in enumerate(sectors)}
            answers = [await client.answer() for _ in asked]
            assert {cookie for cookie, number, _ in answers if number == 0} == asked
            assert await client.do(READ, 0, 200 * 512) == b"".join(sectors)

    serving(example, use)


def test_what_does_not_fit_the_disk_is_an_error_of_its_request(example: ModuleType) -> None:
    async def use(port: int) -> None:
        async with connected(port) as client:
            size, _ = await client.go()
            assert await client.do(READ, 100, 512) == errno.EINVAL
            assert await client.do(READ, size, 512) == errno.EINVAL
            assert await client.do(99) == errno.EINVAL
            assert await client.do(READ, 0, 512) == bytes(512)

    serving(example, use)


def test_every_option_has_its_answer(example: ModuleType) -> None:
    async def use(port: int) -> None:
        async with connected(port) as client:
            assert await client.option(LIST) == [(2, pack(">I", 4) + b"disk"), (1, b"")]
            assert await client.option(STARTTLS) == [(0x80000001, b"")]
            assert await client.option(INFO, b"\0") == [(0x80000003, b"")]
            assert await client.option(INFO, pack(">I5sH", 5, b"other", 0)) == [(0x80000006, b"")]
            assert [kind for kind, _ in await client.option(INFO, bytes(6))] == [3, 3, 1]
            assert await client.option(ABORT) == [(1, b"")]
            assert await client.hung_up()

    serving(example, use)


@pytest.mark.parametrize(("flags", "zeroes"), [(3, 0), (1, 124)])
def test_the_oldest_way_to_begin(example: ModuleType, flags: int, zeroes: int) -> None:
    async def use(port: int) -> None:
        async with connected(port, flags) as client:
            client.writer.write(pack(">8sII", b"IHAVEOPT", 1, 4) + b"disk")
            assert unpack(">QH", await client.reader.readexactly(10))[0] == 64 << 20
            assert await client.reader.readexactly(zeroes) == bytes(zeroes)
            assert await client.do(READ, 0, 512) == bytes(512)
        async with connected(port) as client:
            client.writer.write(pack(">8sII", b"IHAVEOPT", 1, 5) + b"other")
            assert await client.hung_up()

    serving(example, use)


@pytest.mark.parametrize("noise", [bytes(64), b"IHAVEOPT" + b"\xff" * 64])
def test_a_client_that_speaks_no_nbd_is_hung_up_on(example: ModuleType, noise: bytes) -> None:
    async def use(port: int) -> None:
        async with connected(port) as client:
            client.writer.write(noise)
            assert await client.hung_up()
        async with connected(port) as client:
            await client.go()
            client.writer.write(noise)
            assert await client.hung_up()

    serving(example, use)


def test_a_client_that_vanishes_does_no_harm(example: ModuleType) -> None:
    async def use(port: int) -> None:
        for _ in range(3):
            async with connected(port) as client:
                await client.go()
                for _ in range(40):
                    client.ask(READ, 0, 1 << 20)
        async with connected(port) as client:
            await client.go()
            assert await client.do(READ, 0, 512) == bytes(512)

    serving(example, use)


async def output_of(*argv: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, argv
    return output


def test_qemu_img_reads_what_it_has_written(example: ModuleType, tmp_path: Path) -> None:
    if shutil.which("qemu-img") is None:
        leave_out("NBD with qemu-img", "apt-get install qemu-utils")
    there, back = tmp_path / "there.raw", tmp_path / "back.raw"
    there.write_bytes(Random(2).randbytes(64 << 20))

    async def use(port: int) -> None:
        url = f"nbd://127.0.0.1:{port}/disk"
        facts = json.loads(await output_of("qemu-img", "info", "--output=json", url))
        assert facts["virtual-size"] == 64 << 20
        raw = ("-f", "raw", "-O", "raw")
        await output_of("qemu-img", "convert", "-n", *raw, str(there), url)
        await output_of("qemu-img", "convert", *raw, url, str(back))

    serving(example, use)
    assert back.read_bytes() == there.read_bytes()


def test_nbdinfo_sees_a_disk_that_can_be_written_flushed_and_trimmed(example: ModuleType) -> None:
    if shutil.which("nbdinfo") is None:
        leave_out("NBD with nbdinfo", "apt-get install libnbd-bin")

    async def use(port: int) -> None:
        facts = json.loads(await output_of("nbdinfo", "--json", f"nbd://127.0.0.1:{port}/disk"))
        (export,) = facts["exports"]
        assert export["export-size"] == 64 << 20
        assert not export["is_read_only"]
        assert export["can_flush"]
        assert export["can_trim"]

    serving(example, use)


def test_our_own_client_has_the_disk_back(example: ModuleType) -> None:
    async def use(port: int) -> None:
        source = block.NbdSource(f"nbd://127.0.0.1:{port}/disk", patience=patience(30))
        async with source as disk:
            assert (disk.sectors, disk.read_only) == (64 << 11, False)
            await source.write(4096, b"w" * (1 << 20))
            await source.flush()
            await source.discard(8192, 4096)
            read = await source.read(0, 4096 + (1 << 20))
            assert read == bytes(4096) + b"w" * 4096 + bytes(4096) + b"w" * ((1 << 20) - 8192)
            with pytest.raises(block.NbdError, match="the server says: Invalid argument"):
                await source.read(64 << 20, 512)
        other = block.NbdSource(f"nbd://127.0.0.1:{port}/other", patience=patience(30))
        with pytest.raises(block.NbdLost, match="the server has no such export"):
            async with other:
                raise AssertionError("there is no such disk")

    serving(example, use)


class Enough(Exception):
    """What a visitor raises to end a machine that would run for ever."""


def test_the_example_serves_until_it_is_ended(
    example: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def visit(xen: Domain) -> None:
        said = ""
        async with asyncio.timeout(patience(30)):
            while not (found := re.search(r"nbd://127\.0\.0\.1:(\d+)/disk", said)):
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out
            async with connected(int(found[1])) as client:
                await client.go()
                assert await client.do(READ, 0, 512) == bytes(512)
        raise Enough

    machine = Machine(clock="wall")
    machine.boot("dom0", example.serve_disk)
    machine.boot("guest", example.serve_clients)
    machine.boot("visitor", visit)
    with pytest.raises(Enough):
        machine.run()
