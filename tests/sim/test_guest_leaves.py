"""A guest that ends takes its folders in xenstore with it, while a back end still serves it."""

from __future__ import annotations

import pytest

from activations import Domain
from activations.drivers import block
from activations.drivers.block import MemoryDisk, devid_of
from activations.xenbus import Device, front_device, plug, unplug
from xen_sim import Machine

XVDA = devid_of("xvda")


async def dom0(xen: Domain) -> float:
    """Serve a disk until the guest has parted from it, then unplug it; when that was done."""
    device = Device("vbd", XVDA, await xen.find("guest"), xen.domid)
    await plug(xen, device)
    async with block.serve(xen, device, MemoryDisk(bytes(4096))) as end:
        await end.finished()
    await unplug(xen, device)
    return xen.loop.time()


async def guest(xen: Domain) -> None:
    async with block.open(xen, await front_device(xen, "vbd", XVDA)) as disk:
        await disk.read(0, 512)


@pytest.mark.parametrize("seed", range(40))
def test_a_back_end_closes_what_is_its_own_and_nobody_waits_for_it(seed: int) -> None:
    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    assert machine.run()["dom0"] < 1
