"""What `attach block` serves besides files as they are: what is at a URL, and snapshots."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from support.pace import patience
from support.qemu_nbd import IMAGE as QEMUS
from support.qemu_nbd import Qemu
from support.web import Server, ranges_of

from activations import Domain
from activations.cli import main
from activations.cli.attaching import Attachment, Session, Teller
from activations.cli.disks import CannotServe, Choice
from activations.cli.output import JsonLines
from activations.cli.status import NOT_TRIED, WELL
from activations.drivers import block
from activations.drivers.block import BlkBack, Disk
from activations.xenbus import front_device
from xen_sim import Machine

XVDA = block.devid_of("xvda")
IMAGE = Random(2).randbytes(20 * 512)


def serving(
    choose: Callable[[], Awaitable[Choice]],
    use: Callable[[Disk], Awaitable[None]],
    served: AsyncExitStack | None = None,
) -> int:
    """Attach what was chosen to a guest that does this with it, as the command does; then close
    what `served` it."""
    used = asyncio.Event()

    async def dom0(xen: Domain) -> int:
        disk, what, owned = await (await choose()).open(xen)
        try:
            attachment = Attachment(
                kind="vbd",
                devid=XVDA,
                called="xvda",
                what=what,
                driver=lambda device: BlkBack(xen, device, disk),
                counts=True,
            )
            session = Session(
                xen, await xen.find("guest"), "guest", attachment, Teller(JsonLines())
            )
            running = asyncio.create_task(session.run())
            await used.wait()
            session.tell(signal.SIGINT)
            return await running
        finally:
            await owned.aclose()
            if served is not None:
                await served.aclose()

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", XVDA)
        async with asyncio.timeout(patience(30)), block.open(xen, device) as disk:
            await use(disk)
        used.set()

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    status: int = machine.run()["dom0"]
    return status


async def rewrite(disk: Disk) -> None:
    """Read it all, write some, and read all again."""
    assert not disk.read_only
    assert await disk.read(0, disk.size) == IMAGE
    await disk.write(1024, b"x" * 512)
    assert await disk.read(0, disk.size) == IMAGE[:1024] + b"x" * 512 + IMAGE[1536:]


def test_a_guest_writes_to_a_snapshot_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(IMAGE)
    file.chmod(0o444)

    async def choose() -> Choice:
        return Choice(file, format="raw", snapshot=True)

    assert serving(choose, rewrite) == WELL
    assert file.read_bytes() == IMAGE


def test_two_guests_have_snapshots_of_one_file(tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(IMAGE)

    async def dom0(xen: Domain) -> None:
        choice = Choice(file, format="raw", snapshot=True)
        one, _, first = await choice.open(xen)
        two, _, second = await choice.open(xen)
        async with first, second:
            assert one.sectors == two.sectors == 20

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_is_at_a_url_is_a_disk(snapshot: bool, capsys: pytest.CaptureFixture[str]) -> None:
    urls: list[str] = []
    served = AsyncExitStack()

    async def choose() -> Choice:
        urls.append(await served.enter_async_context(Server(ranges_of(IMAGE)).listening()))
        return Choice(url=urls[0], snapshot=snapshot)

    async def look(disk: Disk) -> None:
        assert disk.read_only
        assert await disk.read(0, disk.size) == IMAGE

    assert serving(choose, rewrite if snapshot else look, served) == WELL
    said = capsys.readouterr().out
    assert (f"a snapshot of {urls[0]}" in said) is snapshot


def test_what_went_through_is_said_in_words_where_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(IMAGE)

    async def choose() -> Choice:
        return Choice(file, format="raw", snapshot=True)

    assert serving(choose, rewrite) == WELL
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"removed \(\d+ requests, 40 sectors read, 1 sectors written, ", last)


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_is_on_an_nbd_server_is_a_disk_that_can_be_written(
    snapshot: bool, tmp_path: Path
) -> None:
    async def choose() -> Choice:
        return Choice(url=server.url, snapshot=snapshot)

    async def write(disk: Disk) -> None:
        assert not disk.read_only
        await disk.write(512, b"w" * 512)
        await disk.flush()
        assert await disk.read(0, 1536) == QEMUS[:512] + b"w" * 512 + QEMUS[1024:1536]

    with Qemu(tmp_path) as server:
        assert serving(choose, write) == WELL
        written = QEMUS[:512] + b"w" * 512 + QEMUS[1024:]
        assert server.file.read_bytes() == (QEMUS if snapshot else written)


def test_an_nbd_server_that_is_not_there_is_refused_with_why() -> None:
    async def dom0(xen: Domain) -> None:
        with pytest.raises(CannotServe, match=r"^nbd://127\.0\.0\.1:1/disk: .*onnect"):
            await Choice(url="nbd://127.0.0.1:1/disk").open(xen)

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.run()


def test_a_url_where_there_is_no_disk_is_refused_with_what_the_server_said() -> None:
    async def dom0(xen: Domain) -> None:
        async with Server(ranges_of(b"")).listening() as url:
            with pytest.raises(CannotServe, match=re.escape(url)):
                await Choice(url=url).open(xen)
        with pytest.raises(CannotServe, match="onnect"):  # nobody listens there any more
            await Choice(url=url).open(xen)

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.run()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--source", "ftp://server/disk"),
            "is not the URL of a disk: http://server/disk.img, nbd:",
        ),
        (("--source", "http://"), "is not the URL of a disk"),
        (("--source", "http://server:x/"), "is not the URL of a disk"),
        (("--source", "nbd://"), "is not the URL of a disk"),
        (("--source", "http://server/", "--memory", "1M"), "name one thing to serve"),
        ((), "name one thing to serve: a FILE, --memory SIZE or --source URL"),
        (("--memory", "1M", "--snapshot", "--read-only"), "leave out --read-only"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attach", "block", "guest", *words]) == NOT_TRIED
    assert said in " ".join(capsys.readouterr().err.split())
