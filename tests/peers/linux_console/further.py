"""A further console of a guest: Linux's front end, /dev/hvc1 there, and a Python back end in dom0:
for test_console_linux.py."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import suppress

from anyio import wait_readable
from patience import patience

from activations import Domain, Scenario
from activations.drivers import console
from activations.drivers.console import Console
from activations.xenbus import Device, plug, unplug

DEVICE = "/dev/hvc1"
PATIENCE = patience(100)
MUCH = b"0123456789abcdef" * 1000

hvc1 = Scenario("hvc1")


async def received(tty: Console, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await tty.receive(size - len(data))
    return bytes(data)


@hvc1.domain("dom0")
async def serves(xen: Domain) -> None:
    """What the guest prints comes back to it."""
    async with asyncio.timeout(PATIENCE):
        device = Device("console", 1, await xen.find("guest"), 0, served_as="pyconsole")
        await plug(xen, device, front={"type": "python", "output": "none"})
        async with console.serve(xen, device) as line:
            await line.send(await received(line, len(MUCH)))
            await xen.store.wait_for(f"/local/domain/{device.front}/data/hvc1")
        await unplug(xen, device)
    assert not xen.grants.open


@hvc1.domain("guest")
async def prints(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        descriptor = await opened()
        try:
            tty.setraw(descriptor)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(write, descriptor))
                back = b""
                while len(back) < len(MUCH):
                    await wait_readable(descriptor)
                    back += os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        assert back == MUCH
        await xen.store.write("data/hvc1", 1)


async def opened() -> int:
    """The terminal, once Linux has made it one."""
    while True:
        with suppress(OSError):
            return os.open(DEVICE, os.O_RDWR | os.O_NOCTTY)
        await asyncio.sleep(0.05)


def write(descriptor: int) -> None:
    left = MUCH
    while left:
        left = left[os.write(descriptor, left) :]
