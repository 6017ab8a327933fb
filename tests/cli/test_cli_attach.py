"""`activations attach`: what it says and does, whatever the guest does. On the simulator, with the
signals put in by hand; as it is typed in a real dom0: test_attach_lab.py."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import activations
from activations import Domain
from activations.cli import attaching, disks, main
from activations.cli.attach import _first_free, devids
from activations.cli.attaching import Attachment, Session, Teller
from activations.cli.disks import CannotServe, file_disk, memory_disk
from activations.cli.domains import NoSuchDomain, domid_of
from activations.cli.output import JsonLines
from activations.cli.served import who_has
from activations.cli.status import FAILED, NOT_TRIED, WELL
from activations.drivers import block
from activations.drivers.block import BlkBack, MemoryDisk, names
from activations.drivers.block.names import devid_of, free_name
from activations.xenbus import Device, XenbusState, front_device, plug
from xen_sim import Machine

XVDA = devid_of("xvda")
Guest = Callable[[Domain], Awaitable[Any]]


def attach(guest: Guest, *told: tuple[float, signal.Signals]) -> int:
    """Attach a disk of memory to a guest that does this; tell the command so, at these seconds."""

    async def dom0(xen: Domain) -> int:
        domid = await xen.find("guest")
        attachment = Attachment(
            kind="vbd",
            devid=XVDA,
            called="xvda",
            what="memory",
            driver=lambda device: BlkBack(xen, device, MemoryDisk(b"hello" * 1000)),
        )
        session = Session(xen, domid, "guest", attachment, Teller(JsonLines()))
        for seconds, each in told:
            xen.loop.call_later(seconds, session.tell, each)
        status = await session.run()
        assert not await xen.store.exists(f"/local/domain/0/backend/pyvbd/{domid}/{XVDA}")
        return status

    machine = Machine(seed=0)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    status: int = machine.run()["dom0"]
    return status


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [each["event"] for each in objects(capsys)]


async def reads(xen: Domain) -> None:
    """A guest that uses the disk until it is gone."""
    async with block.open(xen, await front_device(xen, "vbd", XVDA), within=5) as disk:
        assert (await disk.read(0, 512)).startswith(b"hello")
        await asyncio.sleep(20)


async def clings(xen: Domain) -> None:
    """A guest that says Connected, come what may."""
    device = await front_device(xen, "vbd", XVDA)
    await xen.store.write(f"{device.front_path}/state", int(XenbusState.CONNECTED))
    await asyncio.sleep(100)


async def does_not_care(xen: Domain) -> None:
    """A guest without a driver."""
    await asyncio.sleep(100)


def test_the_first_ctrl_c_asks_the_guest_to_let_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(reads, (5, signal.SIGINT)) == WELL
    assert said(capsys) == ["attached", "connected", "asked", "detached"]


def test_kill_asks_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(reads, (5, signal.SIGTERM)) == WELL
    assert said(capsys) == ["attached", "connected", "asked", "detached"]


def test_a_guest_without_a_driver_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(does_not_care, (15, signal.SIGINT)) == WELL
    told = objects(capsys)
    assert [each["event"] for each in told] == ["attached", "waiting", "asked", "detached"]
    assert "as if no driver there had seen the device" in told[1]["text"]


def test_the_second_ctrl_c_takes_the_disk_from_a_guest_that_clings_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attach(clings, (5, signal.SIGINT), (60, signal.SIGINT)) == FAILED
    assert said(capsys)[-2:] == ["asked", "taken away"]


def test_kill_gives_a_guest_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert attach(clings, (5, signal.SIGTERM)) == FAILED
    assert said(capsys)[-3:] == ["asked", "error", "taken away"]


def test_it_ends_when_somebody_else_unplugs_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    async def unplugs(xen: Domain) -> None:
        device = await front_device(xen, "vbd", XVDA)
        await xen.store.rm(device.front_path)

    assert attach(unplugs) == WELL
    assert said(capsys) == ["attached", "detached"]


def test_a_domain_is_meant_by_its_name_or_its_number() -> None:
    async def dom0(xen: Domain) -> None:
        domid = await xen.find("guest")
        assert await domid_of(xen, "guest") == domid
        assert await domid_of(xen, str(domid)) == domid
        with pytest.raises(NoSuchDomain, match=rf"no domain 'gast'.*guest \({domid}\)"):
            await domid_of(xen, "gast")
        with pytest.raises(NoSuchDomain, match="no domain '77'"):
            await domid_of(xen, "77")

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", does_not_care)
    machine.run()


def test_what_a_guest_has_is_read_off_its_folder_whatever_stands_there() -> None:
    async def dom0(xen: Domain) -> None:
        assert await devids(xen, 5, "vbd") == []
        for name in (XVDA, 768, "x", "1" * 200, "-3"):
            await xen.store.mkdir(f"/local/domain/5/device/vbd/{name}")
        assert sorted(await devids(xen, 5, "vbd")) == [768, XVDA]

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["block", "guest"], "name one thing to serve: a FILE, --memory"),
        (
            ["block", "guest", "disk.img", "--memory", "1M"],
            "name one thing to serve: a FILE, --memory",
        ),
        (["block", "guest", "disk.img", "--as", "sda"], "'sda' is not the name of a disk"),
        (["block", "guest", "--memory", "lots"], "'lots' is not a size"),
        (["block", "guest", "--memory", "0M"], "'0M' is not a size"),
        (["block", "guest", "--memory", "9" * 5000], "more than any machine has"),
        (["block", "guest", "disk.img", "--format", "qcow2"], "'qcow2' is not 'raw'"),
        (["net", "guest", "--mac", "00:16:3e"], "'00:16:3e' is not the MAC address"),
        (["net", "guest", "--mac", "01:16:3e:00:00:00"], "is not the MAC address"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attach", *words]) == NOT_TRIED
    assert complaint in capsys.readouterr().err


def test_what_cannot_be_served_is_said_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="No such file"):
        file_disk(tmp_path / "nothing", read_only=False)
    with pytest.raises(CannotServe, match="neither a file nor a block device"):
        file_disk(tmp_path, read_only=True)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(CannotServe, match="is empty: `truncate -s 64M` makes it a disk"):
        file_disk(empty, read_only=False)


def test_memory_that_this_machine_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(length: int) -> MemoryDisk:
        raise MemoryError

    monkeypatch.setattr(disks, "MemoryDisk", full)
    with pytest.raises(CannotServe, match="no 2 GiB of memory left"):
        memory_disk(2 << 30)


def beside(monkeypatch: pytest.MonkeyPatch, *devids: int) -> None:
    """Have the command run in dom0 of a simulated Xen, beside a guest that has these disks."""

    def run(main: Callable[[Domain], Any], *, backend: str) -> Any:
        async def dom0(xen: Domain) -> Any:
            guest = await xen.find("guest")
            for devid in devids:
                await plug(xen, Device("vbd", devid, guest, 0, "pyvbd"))
            return await main(xen)

        machine = Machine()
        machine.boot("dom0", dom0)
        machine.boot("guest", does_not_care)
        return machine.run()["dom0"]

    monkeypatch.setattr(activations, "run", run)


def test_a_size_beyond_all_counting_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(monkeypatch)
    for length in ("10000000000G", "999999999G"):
        assert main(["attach", "block", "guest", "--memory", length]) == NOT_TRIED
        said = capsys.readouterr().err
        assert said.startswith("activations: this machine has no ")
        assert said.count("\n") == 1


def test_a_disk_that_the_guest_has_already_is_told_of_and_how_to_be_rid_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(monkeypatch, XVDA)
    assert main(["attach", "block", "guest", "--memory", "1M", "--as", "xvda"]) == NOT_TRIED
    said = capsys.readouterr().err
    assert "guest has an xvda already" in said
    assert "activations detach block guest xvda" in said


@pytest.mark.parametrize(
    ("has", "wanted", "other"),
    [
        (768, "xvda", "hda"),
        (XVDA + 1, "xvda", "xvda1"),
        (XVDA, "xvda2", "xvda"),
        (2048, "xvda", "sda"),
    ],
)
def test_a_disk_that_the_guest_knows_by_another_name_is_in_the_way_too(
    has: int,
    wanted: str,
    other: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    beside(monkeypatch, has)
    assert main(["attach", "block", "guest", "--memory", "1M", "--as", wanted]) == NOT_TRIED
    said = capsys.readouterr().err
    assert said == f"activations: guest has an {other}, and can have no {wanted} beside it\n"


def test_a_guest_with_all_disks_there_are_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "DISKS", 3)
    with pytest.raises(CannotServe, match="guest has all the disks that a guest can have"):
        _first_free("guest", [768, devid_of("xvdb"), devid_of("xvdc")])


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("vbd", "physical-device", "1:3"),
        ("qdisk", "params", "aio:{file}"),
        ("qdisk", "params", "{file}"),
    ],
)
def test_what_xens_own_back_ends_serve_is_found_in_xenstore(
    kind: str, key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is written is one guest's; one that all only read may be many guests'."""
    file, same, other = (tmp_path / name for name in ("disk.img", "same.img", "other.img"))
    file.touch()
    same.hardlink_to(file)
    other.touch()
    if kind == "vbd":  # a device of this number, whatever that is here
        said = SimpleNamespace(st_mode=stat.S_IFBLK | 0o600, st_rdev=os.makedev(1, 3))
        monkeypatch.setattr(Path, "stat", lambda path: said)

    async def dom0(xen: Domain) -> None:
        folder = f"/local/domain/0/backend/{kind}/7/{XVDA}"
        await xen.store.mkdir(f"/local/domain/0/backend/{kind}/6")
        await xen.store.write(f"{folder}/{key}", value.format(file=file))
        for mode, read_only, found in (("w", False, True), ("r", False, True), ("r", True, False)):
            await xen.store.write(f"{folder}/mode", mode)
            for each in (file, same):
                has = await who_has(xen, each, read_only)
                assert has == ("xvda of domain 7" if found else None)
        if kind != "vbd":
            assert await who_has(xen, other, False) is None

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()


def test_thirty_disks_that_are_attached_at_once_are_thirty() -> None:
    """Each takes the first free name, and another where somebody else was quicker."""
    seen: list[str] = []

    async def dom0(xen: Domain) -> None:
        async def make(xen: Domain, domid: int) -> Attachment:
            called = _first_free("guest", await devids(xen, domid, "vbd"))
            seen.append(called)
            return Attachment(
                kind="vbd",
                devid=devid_of(called),
                called=called,
                what="memory",
                driver=lambda device: BlkBack(xen, device, MemoryDisk(512)),
                any_number=True,
            )

        teller = Teller(JsonLines())
        attached = [attaching.attach(xen, "guest", make, teller) for _ in range(30)]
        assert await asyncio.gather(*attached) == [WELL] * 30
        assert len(seen) > 30, "nobody was in anybody's way"

    async def guest(xen: Domain) -> None:
        folder = f"/local/domain/{xen.domid}/device/vbd"
        thirty: list[int] = []
        while len(thirty) < 30:
            thirty.append(devid_of(free_name(thirty) or ""))
        for devid in thirty:
            await xen.store.wait_for(f"{folder}/{devid}/backend")
        for devid in thirty:
            await xen.store.rm(f"{folder}/{devid}")

    machine = Machine(seed=0)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_a_file_is_served_once(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    with file_disk(image, read_only=False), pytest.raises(CannotServe, match="is in use"):
        file_disk(image, read_only=False)
