"""A disk on a web server that can do everything wrong: what a guest reads, and what is said."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import trustme
from support.pace import patience
from support.web import Answer, Server, ranges_of

from activations import Domain
from activations.drivers import block
from activations.drivers.block import Disk, DiskError, WebSource, web
from activations.xenbus import Device, front_device, plug, unplug
from xen_sim import Machine

IMAGE = Random(1).randbytes(100_000)
"""No whole number of sectors."""
SECTORS = 196
XVDA = block.devid_of("xvda")
proper = ranges_of(IMAGE)


def said(text: bytes) -> Answer:
    return lambda first, last: text


WRONG: dict[str, tuple[Answer, str]] = {
    "not found": (said(b"HTTP/1.1 404 Not Found\r\n\r\n"), "the server says 404 Not Found"),
    "no ranges": (said(b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE), "the server does not serve ranges"),
    "short": (lambda a, z: (proper(a, z) or b"")[:-1], "the answer ends too early"),
    "long": (lambda a, z: (proper(a, z) or b"") + b"x", "more bytes than it says"),
    "cut in its head": (lambda a, z: (proper(a, z) or b"")[:40], "disconnected"),
    "nothing at all": (said(b""), "disconnected"),
    "silent": (lambda a, z: None, "no answer within 0 s"),
    "no HTTP": (said(b"\xff\xfe\r\n\r\n"), "illegal"),
    "no end of its head": (said(b"HTTP/1.0 206 OK\r\n" * 99_999), ""),
    "other bytes": (lambda a, z: proper(a + 1, z + 1), "the server gives other bytes"),
    "which bytes": (said(b"HTTP/1.0 206 OK\r\n\r\n" + IMAGE), "or does not say which"),
    "no text": (
        said(b"HTTP/1.0 206 OK\r\nContent-Range: bytes 0-0/512\xff\r\n\r\n"),
        "or does not",
    ),
    "too many": (
        said(b"HTTP/1.0 206 OK\r\nContent-Range: bytes 0-0/99999999999999999999999\r\n\r\n."),
        "or does not say which",
    ),
    "another image": (ranges_of(IMAGE, etag='"two"'), "it has changed on the server"),
    "a longer image": (ranges_of(IMAGE * 2), "it has changed on the server"),
    "round and round": (
        said(b"HTTP/1.1 302 Found\r\nLocation: /a/disk\r\nContent-Length: 0\r\n\r\n"),
        "redirects",
    ),
}


def using(server: Server, use: Callable[[Disk], Awaitable[object]]) -> None:
    """Have `use` do with the disk in the guest what it likes, while dom0 serves it."""

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", XVDA, await xen.find("guest"), xen.domid, served_as="web")
        async with server.listening() as url, WebSource(url) as disk:
            assert disk.sectors == SECTORS
            await plug(xen, device)
            async with asyncio.timeout(patience(30)), block.serve(xen, device, disk) as end:
                await end.finished()
            await unplug(xen, device)

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", XVDA)
        async with asyncio.timeout(patience(30)), block.open(xen, device) as disk:
            await use(disk)

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_what_the_guest_reads_is_what_the_server_has() -> None:
    server = Server(proper)

    async def use(disk: Disk) -> None:
        assert disk.read_only
        assert await disk.read(0, disk.size) == IMAGE + bytes(SECTORS * 512 - len(IMAGE))
        assert await disk.read(disk.size - 512, 512) == IMAGE[195 * 512 :] + bytes(352)
        pieces = await asyncio.gather(*(disk.read(at * 512, 512) for at in range(100)))
        assert b"".join(pieces) == IMAGE[: 100 * 512]

    using(server, use)
    assert all(asked.startswith("GET /a/disk?of=mine HTTP/1.1\r\n") for asked in server.asked)
    assert all("\r\nAccept-Encoding: identity\r\n" in asked for asked in server.asked)
    assert 1 < server.most <= web.AT_ONCE, "side by side, and not more than that"


@pytest.mark.parametrize("wrong", WRONG)
def test_what_goes_wrong_is_an_io_error_there_and_is_said_here(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the disk is as good as ever when the server is."""
    server = Server(proper)
    answer, words = WRONG[wrong]

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
        using(server, use)
    (record,) = caplog.records
    assert vars(record)["domain"] == "dom0"
    assert words in vars(record)["reason"]
    assert "/a/disk?of=mine" in vars(record)["reason"]


def opened(answer: Answer, change: Callable[[str], str] = str) -> bytes:
    """The first sector of what is at the server's URL, or at what is made of it."""

    async def main() -> bytes:
        async with Server(answer).listening() as url, WebSource(change(url)) as disk:
            data = bytearray(512)
            done = disk.read_into(0, [memoryview(data)])
            assert done is not None
            await done
            return bytes(data)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        ranges_of(IMAGE, reason=" "),
        lambda a, z: (proper(a, z) or b"").replace(b"bytes", b"Bytes"),
    ],
    ids=["no reason", "another case"],
)
def test_what_http_leaves_to_a_server_is_left_to_it(answer: Answer) -> None:
    assert opened(answer) == IMAGE[:512]


def test_a_redirect_is_followed() -> None:
    async def main() -> None:
        there = Server(proper)
        async with there.listening() as url:
            found = f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"
            elsewhere = Server(said(found.encode())).listening()
            async with elsewhere as moved, WebSource(moved) as disk:
                assert disk.sectors == SECTORS

    asyncio.run(main())


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_trusts_whom_this_machine_trusts(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusts = authority if trusted else trustme.CA()
    trusts.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def main() -> int:
        async with Server(proper).listening(served) as url, WebSource(url) as disk:
            return disk.sectors

    if trusted:
        assert asyncio.run(main()) == SECTORS
    else:
        with pytest.raises(OSError, match=r"of=mine: .*certificate verify failed"):
            asyncio.run(main())


def test_a_password_in_the_url_is_no_part_of_the_host() -> None:
    async def main() -> None:
        server = Server(proper)
        async with server.listening() as url, WebSource(url.replace("//", "//me:secret@")):
            pass
        assert "secret" not in server.asked[0]
        assert "\r\nAuthorization: Basic " in server.asked[0]

    asyncio.run(main())


@pytest.mark.parametrize("wrong", ["not found", "no ranges", "nothing at all", "which bytes"])
def test_a_disk_that_cannot_be_opened_says_what_the_server_did(wrong: str) -> None:
    answer, words = WRONG[wrong]
    with pytest.raises(OSError, match=rf"of=mine: .*{words}"):
        opened(answer)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/disk", "http://nosuch.invalid/disk", "http://a..b/disk"]
)
def test_a_server_that_is_not_there_is_named(url: str) -> None:
    with pytest.raises(OSError, match=url) as failed:
        opened(proper, lambda _: url)
    assert failed.value.errno == errno.EIO


def test_a_server_that_goes_away_is_an_io_error(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Server):
        """Says how long the image is, and hangs up on all others."""

        async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
            if self.asked:
                writer.close()
            else:
                await super().serve(reader, writer)

    async def use(disk: Disk) -> None:
        with pytest.raises(DiskError, match="Input/output error"):
            await disk.read(0, 512)

    using(Gone(proper), use)
    (record,) = caplog.records
    assert "of=mine: " in vars(record)["reason"]
