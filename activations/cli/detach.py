"""`activations detach`: take a device away that `activations attach` gave, and left behind.

    activations detach block guest xvdb
    activations detach net guest 0

`attach` removes its device itself when it ends. It is left behind where that was killed.
"""

from __future__ import annotations

from functools import partial

import click

import activations
from activations.cli import options
from activations.cli.attach import disk_name
from activations.cli.attaching import served_as
from activations.cli.domains import domid_of
from activations.cli.ending import status_of
from activations.cli.options import F
from activations.cli.output import Screen
from activations.domain import Domain
from activations.drivers.block.names import devid_of
from activations.xenbus import HandshakeTimeout, XenbusError, device_of, unplug


def force(command: F) -> F:
    """`--force`."""
    return click.option(
        "--force", is_flag=True, help="Take it away though the guest uses it still."
    )(command)


@click.group(short_help="Take a device away that `attach` left behind.")
def detach() -> None:
    """Take a disk or an interface away from a running guest, once it lets go of it.

    Exit status: 0 if it is gone, 1 if the guest does not let go of it, 2 if there is none.
    """


@detach.command(short_help="A disk.")
@click.argument("guest")
@click.argument("name", callback=disk_name)
@force
@options.diagnostics
def block(guest: str, name: str, force: bool, level: str | None, verbose: int, debug: bool) -> int:
    """Take the disk that GUEST calls NAME, as xvdb."""
    with options.diagnosing(level, verbose, debug):
        return perform(guest, "vbd", devid_of(name), name, force)


@detach.command(short_help="A network interface.")
@click.argument("guest")
@click.argument("number", type=options.Whole(min=0))
@force
@options.diagnostics
def net(guest: str, number: int, force: bool, level: str | None, verbose: int, debug: bool) -> int:
    """Take GUEST's interface of this NUMBER, the first being 0."""
    with options.diagnosing(level, verbose, debug):
        return perform(guest, "vif", number, f"interface {number}", force)


def perform(guest: str, kind: str, devid: int, called: str, force: bool) -> int:
    """Unplug it; give the exit status."""
    screen = Screen()

    async def main(xen: Domain) -> None:
        domid = await domid_of(xen, guest)
        device = await device_of(xen, domid, kind, devid)
        if device is None:
            raise XenbusError(f"{guest} has no {called}")
        if device.served_as != served_as(kind):
            raise XenbusError(
                f"{called} of {guest} was not given by `activations attach`: the toolstack that "
                "gave it takes it away (xl block-detach, xl network-detach)"
            )
        screen.progress(f"asks {guest} to let go of {called}")
        await unplug(xen, device, force=force)
        screen.progress(f"{called} of {guest} is gone")

    unplugging = partial(activations.run, main, backend="linux")
    return status_of(unplugging, screen, failures=(HandshakeTimeout,))
