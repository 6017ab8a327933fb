"""`activations attach`: a disk or an interface for a running guest, served by this program.

    activations attach block guest disk.img              it appears there as /dev/xvdb, say
    activations attach net guest --bridge xenbr0

Runs in the domain that serves, most often dom0, as root. The device is there until Ctrl-C.
"""

from __future__ import annotations

import random
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import click

from activations.abi.xenstore_paths import front_ends
from activations.cli import options
from activations.cli.attaching import Attachment, perform
from activations.cli.disks import CannotServe, Choice, is_source
from activations.cli.links import bring_up
from activations.domain import Domain
from activations.drivers.block import BlkBack
from activations.drivers.block.names import devid_of, free_name, in_the_way, name_of
from activations.drivers.net import Interface, Tap
from activations.drivers.net.back import NetBack
from activations.drivers.net.logged import Logged

XEN_OUI = "00:16:3e"
"""The addresses that Xen's makers have for its guests."""
DEVID = re.compile("[0-9]{1,10}")
MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")
DIGITS = 18
"""Of a size, at most."""


@click.group(short_help="Give a running guest a disk or an interface.")
def attach() -> None:
    """Give a running guest a disk or an interface that this program serves, until Ctrl-C.

    GUEST is a domain's name or number. Exit status: 0 if the device was removed in good order, 1
    if it was taken away by force or closed for a fault, 2 if it could not be attached at all.
    """


def disk_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An argument's value, if it is a disk's name."""
    if value is not None:
        try:
            devid_of(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """`64M` in bytes."""
    if value is None:
        return None
    digits, unit = (value[:-1], value[-1].upper()) if value[-1:].isalpha() else (value, "B")
    if not digits.isdecimal() or unit not in "BKMG" or not digits.strip("0"):
        raise click.BadParameter(f"{value!r} is not a size: give bytes, or K, M or G, as 512K")
    if len(digits) > DIGITS:
        raise click.BadParameter("more than any machine has: give a size like 512K, 64M, 2G")
    return int(digits) << 10 * "BKMG".index(unit)


def _url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A URL that can be served."""
    if value is not None and not is_source(value):
        raise click.BadParameter(
            f"{value!r} is not the URL of a disk: http://server/disk.img, nbd://server/export"
        )
    return value


def counted(command: options.F) -> options.F:
    """`--statistics`."""
    return click.option(
        "--statistics", "counts", is_flag=True, help="Say at the end what went through the device."
    )(command)


@attach.command(short_help="A disk: a file, a block device, memory, or what is at a URL.")
@click.argument("guest")
@click.argument(
    "file", required=False, type=click.Path(path_type=Path), shell_complete=options.complete_file
)
@click.option(
    "--as",
    "name",
    metavar="NAME",
    callback=disk_name,
    help="What the guest calls it, as xvdb.  [default: the first that is free]",
)
@click.option("-r", "--read-only", is_flag=True, help="The guest cannot write to it.")
@click.option(
    "--format",
    "format",
    type=click.Choice(["raw"]),
    help="FILE is raw, though it looks like an image of another format.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    callback=_size,
    help="Serve this much memory, all zeroes, and no file: 64M.",
)
@click.option(
    "--source",
    "url",
    metavar="URL",
    callback=_url,
    help="Serve what is there: http, https (fetched as the guest reads it; read-only), or nbd.",
)
@click.option(
    "--snapshot",
    is_flag=True,
    help="What the guest writes is thrown away at the end; what is served stays as it is.",
)
@counted
@options.as_json
@options.diagnostics
def block(
    guest: str,
    file: Path | None,
    name: str | None,
    read_only: bool,
    format: Literal["raw"] | None,
    memory: int | None,
    url: str | None,
    snapshot: bool,
    counts: bool,
    as_json: bool,
    level: str | None,
    verbose: int,
    debug: bool,
) -> int:
    """Give GUEST a disk: FILE, a raw image or a block device, so much memory, or what is at a URL.

    Unmount the disk in the guest, then press Ctrl-C: it asks the guest to let go of the disk, and
    waits until it does; a second one takes the disk away. Linux lets go of a mounted disk too, and
    loses what it had not written yet. FILE is locked meanwhile. What the guest flushed is on it.
    """
    if [file, memory, url].count(None) != 2:
        raise click.UsageError("name one thing to serve: a FILE, --memory SIZE or --source URL")
    if snapshot and read_only:
        raise click.UsageError("--snapshot is for a guest that writes: leave out --read-only")
    choice = Choice(file, memory, url, read_only, format, snapshot)

    async def attachment(xen: Domain, domid: int) -> Attachment:
        taken = await devids(xen, domid, "vbd")
        called = name or _first_free(guest, taken)
        if (other := in_the_way(devid_of(called), taken)) is not None:
            raise CannotServe(_in_the_way(guest, called, name_of(other)))
        disk, what, owned = await choice.open(xen)
        mode = "r" if disk.read_only or read_only else "w"
        return Attachment(
            kind="vbd",
            devid=devid_of(called),
            called=called,
            what=what + (", read-only" if mode == "r" else ""),
            driver=lambda device: BlkBack(xen, device, disk),
            front={"virtual-device": devid_of(called), "device-type": "disk"},
            back={"dev": called, "mode": mode, "device-type": "disk", "removable": 0},
            owned=owned,
            any_number=name is None,
            counts=counts,
            care="unmount it there before you press Ctrl-C",
        )

    with options.diagnosing(level, verbose, debug):
        return perform(guest, attachment, as_json)


def _mac(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value is None:
        return ":".join([XEN_OUI, *(f"{random.randrange(256):02x}" for _ in range(3))])
    if not MAC.fullmatch(value.lower()) or int(value[:2], 16) & 1:
        raise click.BadParameter(
            f"{value!r} is not the MAC address of one interface: give six bytes, the first of "
            "them even, as 00:16:3e:01:02:03"
        )
    return value.lower()


@attach.command(short_help="A network interface, on a TAP device here.")
@click.argument("guest")
@click.option("--bridge", metavar="BRIDGE", help="Put the TAP device into this bridge.")
@click.option(
    "--tap", "tap_name", metavar="NAME", help="What the device is called here.  [default: pyvif3.0]"
)
@click.option(
    "--mac",
    metavar="ADDRESS",
    callback=_mac,
    help="The guest's address.  [default: a random one of Xen's]",
)
@click.option(
    "--pcap",
    type=options.OUT,
    metavar="FILE",
    help="Write every frame into FILE, for tcpdump and Wireshark.",
)
@counted
@options.as_json
@options.diagnostics
def net(
    guest: str,
    bridge: str | None,
    tap_name: str | None,
    mac: str,
    pcap: Path | None,
    counts: bool,
    as_json: bool,
    level: str | None,
    verbose: int,
    debug: bool,
) -> int:
    """Give GUEST a network interface whose other end is a TAP device here.

    What the guest sends comes out of the device, which is up, and in the bridge if there is one.
    Without a bridge give the device an address: ip addr add 10.0.0.1/24 dev NAME.
    """

    async def attachment(xen: Domain, domid: int) -> Attachment:
        number = await free_number(xen, domid)
        async with AsyncExitStack() as undo:
            tap = await _tap(tap_name or f"pyvif{domid}.{number}", bridge)
            undo.callback(tap.close)
            wire: Interface = tap
            if pcap is not None:
                wire = logged = _logged(tap, pcap)
                undo.callback(logged.close)
            owned = undo.pop_all()
        return Attachment(
            kind="vif",
            devid=number,
            called=f"interface {number} ({mac})",
            what=f"TAP device {tap.name}" + (f" in {bridge}" if bridge else ""),
            driver=lambda device: NetBack(xen, device, wire),
            front={"handle": number, "mac": mac},
            back={"handle": number, "mac": mac, "hotplug-status": "connected"},
            owned=owned,
            any_number=True,
            counts=counts,
        )

    with options.diagnosing(level, verbose, debug):
        return perform(guest, attachment, as_json)


def _logged(tap: Tap, file: Path) -> Logged:
    try:
        return Logged(tap, file)
    except OSError as error:
        raise CannotServe(f"{file} cannot be written: {error.strerror}") from None


async def _tap(name: str, bridge: str | None) -> Tap:
    """A TAP device that is up, and in the bridge."""
    try:
        tap = Tap(name)
    except FileNotFoundError:
        raise CannotServe("this kernel has no TAP devices: modprobe tun") from None
    except (OSError, ValueError) as error:
        raise CannotServe(f"TAP device {name}: {error}") from None
    try:
        await bring_up(tap.name, bridge)
    except BaseException:
        tap.close()
        raise
    return tap


async def free_number(xen: Domain, domid: int) -> int:
    """The first interface that the guest does not have."""
    taken = await devids(xen, domid, "vif")
    return next(number for number in range(len(taken) + 1) if number not in taken)


async def devids(xen: Domain, domid: int, kind: str) -> list[int]:
    """The numbers of the guest's devices of this kind."""
    folder = front_ends(domid, kind)
    names = await xen.store.list(folder) if await xen.store.exists(folder) else []
    return [int(name) for name in names if DEVID.fullmatch(name)]


def _first_free(guest: str, taken: list[int]) -> str:
    name = free_name(taken)
    if name is None:
        raise CannotServe(
            f"{guest} has all the disks that a guest can have: detach one first "
            "(activations detach block)"
        )
    return name


def _in_the_way(guest: str, called: str, other: str) -> str:
    if other != called:
        return f"{guest} has an {other}, and can have no {called} beside it"
    return (
        f"{guest} has an {called} already; where an `attach` that was killed left it behind: "
        f"activations detach block {guest} {called}"
    )
