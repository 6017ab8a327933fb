"""A guest's first console, hvc0, served by Python in dom0 in place of xenconsoled: for
test_console_linux.py.

The guest has a kernel that prints all it does, and a shell for its first program. To be run in a
lab without other guests, which need xenconsoled.
"""

from __future__ import annotations

import asyncio

from anyio import EndOfStream
from patience import patience

from activations import Domain, Scenario
from activations.drivers import console
from activations.drivers.console import Console

PATIENCE = patience(200)
CREATE = """\
set -e
if [ ! -e /dev/vdb ]; then
    insmod /modules/virtio_blk.ko
    for slot in 03 04; do echo 0000:00:$slot.0 > /sys/bus/pci/drivers/virtio-pci/bind; done
fi
printf %s "$1" > /run/hvc0.cfg
xl create -p -q /run/hvc0.cfg > /dev/null
kill $(pidof xenconsoled)
xl domid hvc0
"""
"""The toolstack waits until xenconsoled serves the console; then nobody does."""
CONFIG = """\
name = "hvc0"
type = "pvh"
memory = 384
vcpus = 1
cpus = "1"
kernel = "/dev/vda"
ramdisk = "/dev/vdb"
extra = "console=hvc0 loglevel=7 panic=-1 rdinit=/bb/sh rootfstype=ramfs mitigations=off"
tsc_mode = "native"
on_crash = "destroy"
"""

hvc0 = Scenario("hvc0")


async def shell(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{argv[0]} ended with {process.returncode}"
    return output.decode()


async def until(tty: Console, word: bytes) -> bytes:
    """What is printed, up to where this is in it."""
    said = bytearray()
    while word not in said:
        said += await tty.receive()
    return bytes(said)


async def rest(tty: Console) -> bytes:
    said = bytearray()
    try:
        while True:
            said += await tty.receive()
    except EndOfStream:
        return bytes(said)


@hvc0.domain("dom0")
async def serves(xen: Domain) -> dict[str, str]:
    """The log of the boot, what a command typed at the shell said, and what came in the end."""
    async with asyncio.timeout(PATIENCE):
        domid = int(await shell("sh", "-c", CREATE, "create", CONFIG))
        async with console.serve_first(xen, domid) as tty:
            await shell("xl", "unpause", "hvc0")
            log = await until(tty, b"\n/ # ")
            await tty.send(b"echo six times seven is $((6 * 7))\n")
            said = await until(tty, b"is 42")
            await shell("xl", "destroy", "hvc0")
            end = await rest(tty)
    assert not xen.grants.open
    return {"log": log.decode(), "said": said.decode(), "end": end.decode()}
