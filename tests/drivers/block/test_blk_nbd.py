"""A disk on an NBD server: QEMU's, and one that does everything wrong that a server can."""

from __future__ import annotations

import asyncio
import errno
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from struct import pack, unpack

import pytest
from support.pace import patience
from support.qemu_nbd import IMAGE, Qemu

from activations import Domain
from activations.drivers import block
from activations.drivers.block import NbdError, NbdLost, NbdSource
from activations.drivers.block.nbd import Address, parse
from activations.drivers.block.nbd_connection import Connection
from activations.xenbus import Device, front_device, plug
from xen_sim import Machine

READ, WRITE, DISCONNECT, FLUSH, TRIM = range(5)
ACK, INFO = 1, 3


def on_a_domain(use: Callable[[], Awaitable[None]]) -> None:
    async def main(xen: Domain) -> None:
        async with asyncio.timeout(patience(30)):
            await use()

    machine = Machine(clock="wall")
    machine.boot("dom0", main)
    machine.run()


async def opened(source: NbdSource) -> None:
    """Enter its block, which is to fail."""
    async with source:
        raise AssertionError("there is a disk")


class Closing(asyncio.Transport):
    """A transport between the loss of its connection and the turn in which that is said."""

    def is_closing(self) -> bool:
        return True

    def writelines(self, pieces: object) -> None:
        raise AssertionError("nothing is written to what is lost")


def test_nothing_is_asked_on_a_connection_whose_loss_is_about_to_be_said() -> None:
    async def main() -> None:
        connection = Connection("a disk")
        connection.connection_made(Closing())
        with pytest.raises(NbdLost, match="the connection was lost"):
            connection.ask(READ, 0, 512, b"")

    asyncio.run(main())


# QEMU's server


def test_what_is_written_is_in_the_file_that_qemu_serves(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url)
        async with source as disk:
            assert (disk.sectors, disk.sector_size, disk.read_only) == (64, 512, False)
            assert disk.discard_granularity == 512
            await source.write(512, b"w" * 1024)
            await source.flush()
            await source.discard(4096, 8192)
            assert await source.read(0, 2048) == IMAGE[:512] + b"w" * 1024 + IMAGE[1536:2048]
        with pytest.raises(NbdError, match="the disk was closed"):
            await source.read(0, 512)

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)
        expected = bytearray(IMAGE)
        expected[512:1536] = b"w" * 1024
        expected[4096:12288] = bytes(8192)
        assert qemu.file.read_bytes() == expected


def test_many_requests_are_under_way_at_once(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url)
        async with source:
            sectors = [n * 512 for n in range(64)] * 5
            read = await asyncio.gather(*(source.read(at, 512) for at in sectors))
            assert read == [IMAGE[at : at + 512] for at in sectors]

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)


def test_a_guest_has_the_disk_of_a_server_that_cannot_be_written(tmp_path: Path) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("vbd", block.devid_of("xvda"), await xen.find("guest"), xen.domid)
        await plug(xen, device)
        async with NbdSource(qemu.url) as disk, block.serve(xen, device, disk) as end:
            await end.finished()

    async def guest(xen: Domain) -> None:
        async with block.open(xen, await front_device(xen, "vbd", 51712)) as disk:
            assert disk.read_only
            assert await disk.read(0, disk.size) == IMAGE

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    with Qemu(tmp_path, "--read-only") as qemu:
        machine.run()


def test_a_server_that_is_killed_and_comes_back_is_used_again(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url, patience=patience(30))
        async with source:
            await source.write(0, b"a" * 512)
            await source.flush()
            qemu.kill()
            reading = asyncio.create_task(source.read(0, 512))
            await asyncio.sleep(0)
            qemu.start()
            assert await reading == b"a" * 512
            await source.flush()  # all that was written had been flushed

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)


def test_the_flush_after_a_server_was_away_says_that_writes_may_be_lost(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url, patience=patience(30))
        async with source:
            await source.write(0, b"a" * 512)
            qemu.kill()
            qemu.start()
            with pytest.raises(NbdError, match="was away, and may have lost writes") as refused:
                await source.flush()
            assert refused.value.errno == errno.EIO
            await source.flush()  # as with fsync: it is said once

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)


def test_a_server_that_stays_away_fails_what_is_asked_of_it(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url)
        async with source:
            qemu.kill()
            source.patience = 0.3
            with pytest.raises(NbdLost, match=r"nbd\+unix:///a%20disk.*; tried for 0.3 s") as lost:
                await source.read(0, 512)
            assert lost.value.errno == errno.EIO
            qemu.start()
            source.patience = patience(30)
            assert await source.read(0, 512) == IMAGE[:512], "the disk is not given up"

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)


def test_another_disk_under_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    async def use() -> None:
        source = NbdSource(qemu.url)
        async with source:
            qemu.kill()
            qemu.file.write_bytes(IMAGE * 2)
            qemu.start()
            with pytest.raises(NbdError, match=r"a%20disk.*: the server has another disk"):
                await source.read(0, 512)

    with Qemu(tmp_path) as qemu:
        on_a_domain(use)


# A server of the test's own

Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def reply(kind: int, data: bytes = b"") -> bytes:
    return pack(">QIII", 0x3E889045565A9, 7, kind, len(data)) + data


def geometry(size: int = len(IMAGE), flags: int = 37, least: int = 1, most: int = 1 << 25) -> bytes:
    return (
        reply(INFO, pack(">HQH", 0, size, flags))
        + reply(INFO, b"\0\1a name that was not asked for")
        + reply(INFO, pack(">HIII", 3, least, 4096, most))
        + reply(ACK)
    )


async def greet(reader: StreamReader, writer: StreamWriter, answer: bytes) -> None:
    writer.write(b"NBDMAGICIHAVEOPT" + pack(">H", 3))
    assert unpack(">I8sII", await reader.readexactly(20)) == (1, b"IHAVEOPT", 7, 12)
    assert await reader.readexactly(12) == pack(">I4sHH", 4, b"disk", 1, 3)
    writer.write(answer)


async def asked(reader: StreamReader) -> tuple[int, bytes, int, int, bytes]:
    """A request: command, cookie, offset, length, data."""
    magic, _, command, cookie, offset, length = unpack(">IHH8sQI", await reader.readexactly(28))
    assert magic == 0x25609513
    data = await reader.readexactly(length) if command == WRITE else b""
    return command, cookie, offset, length, data


def answer(cookie: bytes, number: int = 0, data: bytes = b"") -> bytes:
    return pack(">II", 0x67446698, number) + cookie + data


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server that does this with each that comes; its URL."""

    async def come(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(IncompleteReadError, ConnectionError):
            await serve(reader, writer)
        writer.close()

    async with asyncio.TaskGroup() as those_that_came:

        def connected(reader: StreamReader, writer: StreamWriter) -> None:
            those_that_came.create_task(come(reader, writer))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        yield f"nbd://127.0.0.1:{server.sockets[0].getsockname()[1]}/disk"
        server.close()


ERROR = 1 << 31
NOT_NBD = "the server does not speak NBD"
REFUSED: dict[str, tuple[bytes | None, str]] = {
    "no NBD": (None, NOT_NBD),
    "no such export": (reply(ERROR | 6), "the server has no such export"),
    "in its own words": (reply(ERROR | 2, b"go away"), r"does not let this client in \(go away\)"),
    "an error of its own": (reply(ERROR | 99), "the server refuses"),
    "too old": (reply(ERROR | 1), "does not know NBD_OPT_GO"),
    "TLS": (reply(ERROR | 5), "speaks by TLS alone"),
    "hangs up": (b"", "the connection was lost"),
    "says no size": (reply(ACK), NOT_NBD),
    "a short answer": (reply(INFO, b"\0\0\0"), NOT_NBD),
    "a long answer": (pack(">QIII", 0x3E889045565A9, 7, INFO, 1 << 20), NOT_NBD),
    "an answer to something else": (pack(">QIII", 0x3E889045565A9, 6, ACK, 0), NOT_NBD),
    "an empty disk": (geometry(size=0), "has 0 bytes"),
    "half a sector": (geometry(size=1000), "has 1000 bytes: it must be 1 or more sectors of 512"),
    "half a block": (geometry(size=9 * 512, least=1024), "must be 1 or more sectors of 4096"),
    "long blocks": (geometry(least=65536, size=1 << 20), "has blocks of 65536 bytes"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_not_a_disk_that_can_be_served_is_refused(wrong: str) -> None:
    says, why = REFUSED[wrong]

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        if says is None:
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return
        await greet(reader, writer, says)

    async def use() -> None:
        async with serving(serve) as url:
            with pytest.raises(NbdLost, match=f"^.*{url}: .*{why}"):
                await opened(NbdSource(url, patience=patience(10)))

    on_a_domain(use)


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_that() -> None:
    async def use() -> None:
        leave = asyncio.Event()

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await leave.wait()

        async with serving(serve) as url:
            with pytest.raises(NbdLost, match=r"no answer within 0\.1 s"):
                await opened(NbdSource(url, patience=0.1))
            leave.set()

    on_a_domain(use)


def test_where_there_is_no_server_that_is_said() -> None:
    async def use() -> None:
        with pytest.raises(NbdLost, match=r"nbd://127\.0\.0\.1:1/: .*onnect"):
            await opened(NbdSource("nbd://127.0.0.1:1/"))
        with pytest.raises(NbdLost, match="No such file"):
            await opened(NbdSource("nbd+unix:///?socket=/nowhere"))

    on_a_domain(use)


def test_an_error_of_the_server_is_that_of_the_request_and_of_no_other() -> None:
    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await greet(reader, writer, geometry())
        while True:
            command, cookie, offset, length, _ = await asked(reader)
            if command == WRITE:
                writer.write(answer(cookie, errno.ENOSPC))
            elif command == READ:
                writer.write(answer(cookie, data=IMAGE[offset : offset + length]))

    async def use() -> None:
        async with serving(serve) as url:
            source = NbdSource(url)
            async with source:
                write, read = await asyncio.gather(
                    source.write(0, bytes(512)), source.read(512, 512), return_exceptions=True
                )
                assert isinstance(write, NbdError)
                assert write.errno == errno.ENOSPC
                assert write.strerror == f"{url}: the server says: No space left on device"
                assert read == IMAGE[512:1024]

    on_a_domain(use)


def test_a_request_that_was_not_answered_is_sent_again_on_a_new_connection() -> None:
    seen: list[tuple[int, bytes]] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await greet(reader, writer, geometry())
        while True:
            command, cookie, _, _, data = await asked(reader)
            seen.append((command, data))
            if len(seen) == 1:
                return  # and says nothing
            if len(seen) == 2:
                writer.write(answer(cookie, errno.ESHUTDOWN))
            elif len(seen) == 3:
                writer.write(answer(b"\xff" * 8))  # to what was not asked
            else:
                writer.write(answer(cookie))

    async def use() -> None:
        async with serving(serve) as url:
            source = NbdSource(url, patience=patience(30))
            async with source:
                await source.write(0, b"x" * 512)
                assert seen == [(WRITE, b"x" * 512)] * 4
                await source.flush()  # the write that was answered was on this connection

    on_a_domain(use)


def test_the_answer_to_a_request_that_was_given_up_is_passed_over() -> None:
    async def use() -> None:
        go_on = asyncio.Event()
        came = asyncio.Event()

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await greet(reader, writer, geometry())
            first = await asked(reader)
            came.set()
            _, cookie, offset, length, _ = await asked(reader)
            writer.write(answer(first[1], data=b"z" * first[3]))
            writer.write(answer(cookie, data=IMAGE[offset : offset + length]))
            await go_on.wait()

        async with serving(serve) as url:
            source = NbdSource(url)
            async with source:
                given_up = asyncio.create_task(source.read(0, 4096))
                await came.wait()
                given_up.cancel()
                assert await source.read(512, 512) == IMAGE[512:1024]
                go_on.set()

    on_a_domain(use)


def test_no_request_is_longer_than_the_server_takes() -> None:
    lengths: list[tuple[int, int]] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await greet(reader, writer, geometry(least=4096, most=8192))
        while True:
            command, cookie, offset, length, _ = await asked(reader)
            lengths.append((command, length))
            data = IMAGE[offset : offset + length] if command == READ else b""
            writer.write(answer(cookie, data=data))

    async def use() -> None:
        async with serving(serve) as url:
            source = NbdSource(url)
            async with source as disk:
                assert disk.sector_size == 4096
                assert await source.read(0, 20480) == IMAGE[:20480]
                await source.write(4096, bytes(12288))
                await source.discard(0, 3 << 30)
        assert lengths[:3] == [(READ, 8192), (READ, 8192), (READ, 4096)]
        assert lengths[3:5] == [(WRITE, 8192), (WRITE, 4096)]
        assert lengths[5:] == [(TRIM, 1 << 30)] * 3 + [(DISCONNECT, 0)], "its limit is on data"

    on_a_domain(use)


def test_what_a_server_does_not_offer_is_not_asked_of_it() -> None:
    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await greet(reader, writer, geometry(flags=1))
        command, *_ = await asked(reader)
        assert command == DISCONNECT

    async def use() -> None:
        async with serving(serve) as url:
            source = NbdSource(url)
            async with source as disk:
                assert (disk.read_only, disk.discard_granularity) == (False, 0)
                await source.flush()

    on_a_domain(use)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nbd://server", Address("server", 10809, "", "")),
        ("nbd://server/", Address("server", 10809, "", "")),
        ("nbd://server:99/a/b%20c", Address("server", 99, "", "a/b c")),
        ("nbd://[::1]:99/x", Address("::1", 99, "", "x")),
        ("nbd+unix:///x?socket=/run/a%20b", Address("", 0, "/run/a b", "x")),
    ],
)
def test_a_url_says_where_the_server_is_and_which_disk(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "nbd:", "nbd:///x", "nbd://server:0/", "nbd://server:x/", "nbd://server:99999/"),
        *("nbd://[::1/", "nbd+unix:///x", "nbd+unix://server/x?socket=/s"),
        *("nbds://server/", "http://server/"),
    ],
)
def test_what_is_not_a_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(
        ValueError, match="is not the URL of an NBD server: nbd://server/export, or"
    ):
        NbdSource(url)
