"""A program: one of the command's subcommands that run for long, on a simulated Xen where it needs
one, beside a guest that says how it was parted with.

    python long_running.py RECORD WORD...

The guest begins once there is a file RECORD.go. RECORD says `served` then, and in the end `parted`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from anyio import BrokenResourceError

import activations
from activations import Domain, registry, vchan
from activations.cli import main
from activations.drivers import block, net
from activations.drivers.block.errors import DiskGone
from activations.drivers.block.names import devid_of
from activations.drivers.net import Switch
from activations.outcome import Observer
from activations.xenbus import front_device
from xen_sim import Machine

RECORD = Path(sys.argv[1])
XVDA = devid_of("xvda")
LONG = 60.0


def record(said: str) -> None:
    RECORD.write_text(said)


async def may_begin() -> None:
    while not RECORD.with_suffix(".go").exists():
        await asyncio.sleep(0.01)


async def uses_a_disk(xen: Domain) -> str:
    """Until it is taken away."""
    device = await front_device(xen, "vbd", XVDA)
    async with block.open(xen, device, within=LONG) as disk:
        await disk.write(0, b"x" * 512)
        record("served")
        try:
            while True:
                await disk.read(0, 512)
                await asyncio.sleep(0.01)
        except DiskGone:
            return "parted"


async def uses_an_interface(xen: Domain) -> str:
    device = await front_device(xen, "vif", 0)
    async with net.open(xen, device, within=LONG):
        record("served")
        while await xen.store.exists(f"{device.front_path}/backend"):
            state = await xen.store.read(f"{device.back_path}/state")
            if state in ("5", "6"):
                break
            await asyncio.sleep(0.01)
    return "parted"


async def hears(xen: Domain) -> str:
    async with await vchan.connect(xen, 0, "data/cat") as stream:
        record("served")
        try:
            while True:
                await stream.send(b"tick\n")
                await asyncio.sleep(0.01)
        except BrokenResourceError:
            return "parted"


GUESTS: dict[tuple[str, ...], Callable[[Domain], Awaitable[str]]] = {
    ("attach", "block"): uses_a_disk,
    ("attach", "net"): uses_an_interface,
    ("vchan", "listen"): hears,
}


def beside(guest: Callable[[Domain], Awaitable[str]]) -> Callable[..., Any]:
    """What stands for `activations.run`: it runs in dom0 of a simulated Xen with this guest."""

    def run(main: Callable[[Domain], Awaitable[Any]], **options: Any) -> Any:
        async def whole_guest(xen: Domain) -> None:
            await may_begin()
            record(await guest(xen))

        async def dom0(xen: Domain) -> Any:
            result = await main(xen)
            left = await xen.store.list("/local/domain/0")
            assert "backend" not in left or await nothing_below(xen), "the device was left behind"
            return result

        machine = Machine(clock="wall")
        machine.boot("dom0", dom0)
        machine.boot("guest", whole_guest)
        return machine.run()["dom0"]

    return run


async def nothing_below(xen: Domain) -> bool:
    backend = "/local/domain/0/backend"
    return not any(
        [await xen.store.list(f"{backend}/{kind}") for kind in await xen.store.list(backend)]
    )


class Shell:
    """A lab with a shell that talks until it is ended, and says how."""

    protocol_version = registry.PROTOCOL_VERSION

    def shell(self, domain: str, observer: Observer) -> int:
        observer.progress("boots")
        record("served")
        try:
            while True:
                sys.stdout.buffer.write(b"$ \n")
                sys.stdout.flush()
                time.sleep(0.01)
        finally:
            record("parted")


class Tap:
    """A TAP device that is the port of a switch."""

    def __new__(cls, *args: Any) -> Any:
        port: Any = Switch().port()
        port.name = "tap"
        return port


async def no_tap(*args: Any) -> Any:
    return Tap()


def stand_in(words: list[str]) -> None:
    """Put what this command needs in the place of what this machine has not got."""
    guest = GUESTS.get(tuple(words[:2]))
    if guest is not None:
        activations.run = beside(guest)  # type: ignore[assignment]
        importlib.import_module("activations.cli.vchan").run = activations.run  # type: ignore[attr-defined]
        importlib.import_module("activations.cli.attach")._tap = no_tap  # type: ignore[attr-defined]
    if words[0] == "lab":
        registry.find = lambda name: Shell()  # type: ignore[assignment, return-value]


if __name__ == "__main__":
    words = sys.argv[2:]
    stand_in(words)
    sys.exit(main(words))
