"""A guest has a quota of transactions, of watches and of nodes: many devices and vchans at once, or
one after the other, keep within it or say which it is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from anyio import EndOfStream

from activations import Domain, vchan
from activations.drivers import block
from activations.drivers.block import MemoryDisk
from activations.store import QuotaError
from activations.xenbus import Device, front_device, plug
from xen_sim import Machine

MANY = 30


def run(dom0: object, guest: object) -> None:
    machine = Machine()
    machine.boot("dom0", dom0)  # type: ignore[arg-type]
    machine.boot("guest", guest)  # type: ignore[arg-type]
    machine.run()


def test_one_guest_opens_thirty_disks_at_once() -> None:
    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        async with AsyncExitStack() as stack:
            for devid in range(MANY):
                device = Device("vbd", devid, guest, 0, "test")
                await plug(xen, device)
                disk = MemoryDisk(4096 * (devid + 1))
                await stack.enter_async_context(block.serve(xen, device, disk))
            await xen.store.write(f"/local/domain/{guest}/data/plugged", "1")
            await xen.store.wait_for(f"/local/domain/{guest}/data/done")

    async def guest(xen: Domain) -> None:
        async def use(devid: int) -> int:
            device = await front_device(xen, "vbd", devid)
            async with block.open(xen, device, pages=4) as disk:
                return disk.size

        await xen.store.wait_for("data/plugged")
        sizes = await asyncio.gather(*map(use, range(MANY)))
        assert sizes == [4096 * (devid + 1) for devid in range(MANY)]
        await xen.store.write("data/done", "1")

    run(dom0, guest)


@pytest.mark.parametrize("guest_serves", [True, False])
def test_one_guest_listens_on_or_connects_to_thirty_vchans_at_once(guest_serves: bool) -> None:
    async def serve(xen: Domain, home: str, peer: int) -> None:
        async def echo(number: int) -> None:
            async with (
                vchan.listen(xen, peer, f"{home}/data/{number}") as listener,
                await listener.accept() as stream,
            ):
                await stream.send(await stream.receive())

        await asyncio.gather(*map(echo, range(MANY)))

    async def connect(xen: Domain, home: str, peer: int) -> None:
        async def talk(number: int) -> None:
            async with await vchan.connect(xen, peer, f"{home}/data/{number}") as stream:
                await stream.send(b"%d" % number)
                assert await stream.receive() == b"%d" % number

        await asyncio.gather(*map(talk, range(MANY)))

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        await (connect if guest_serves else serve)(xen, f"/local/domain/{guest}", guest)

    async def guest(xen: Domain) -> None:
        await (serve if guest_serves else connect)(xen, f"/local/domain/{xen.domid}", 0)

    run(dom0, guest)


def test_listening_under_ever_new_names_leaves_no_folders() -> None:
    """A guest may own 1,000 nodes, of which an offer takes several."""

    async def dom0(xen: Domain) -> None:
        await xen.store.wait_for(f"/local/domain/{await xen.find('guest')}/data/done")

    async def guest(xen: Domain) -> None:
        for number in range(600):
            async with vchan.listen(xen, 0, f"data/echo/{number}/here"):
                assert await xen.store.exists(f"data/echo/{number}/here")
        assert await xen.store.list("data") == []
        await xen.store.write("data/done", "1")

    run(dom0, guest)


def test_a_listener_leaves_folders_that_were_there_or_hold_something_else() -> None:
    async def dom0(xen: Domain) -> None:
        store = xen.store
        await store.mkdir("/tool/there")
        async with vchan.listen(xen, 0, "/tool/there"):
            pass
        assert await store.list("/tool/there") == []

        async with vchan.listen(xen, 0, "/tool/new/outer"):
            async with vchan.listen(xen, 0, "/tool/new/outer/inner"):
                pass
            await store.write("/tool/new/note", "somebody else's")
        assert await store.list("/tool/new") == ["note"]

        async with vchan.listen(xen, 0, "/tool/away/x"):
            await store.rm("/tool/away")  # by a toolstack that has cleaned up
        assert not await store.exists("/tool/away")

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()


def test_folders_of_a_listener_go_with_its_last_offer() -> None:
    """Those of another one were in them as it withdrew an earlier one."""

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        home = f"/local/domain/{guest}/data"
        async with AsyncExitStack() as stack:
            outer = await stack.enter_async_context(vchan.listen(xen, guest, f"{home}/outer"))
            async with vchan.listen(xen, guest, f"{home}/outer/inner"):
                await xen.store.write(f"{home}/listens", "1")
                async with await outer.accept():
                    assert await xen.store.list(f"{home}/outer") == ["inner"]
                await outer.offer()
        assert not await xen.store.exists(f"{home}/outer")
        await xen.store.write(f"{home}/done", "1")

    async def guest(xen: Domain) -> None:
        await xen.store.wait_for("data/listens")
        async with await vchan.connect(xen, 0, "data/outer") as stream:
            with pytest.raises(EndOfStream):
                await stream.receive()
        await xen.store.wait_for("data/done")

    run(dom0, guest)


def test_a_connection_too_many_says_that_the_quota_of_watches_is_used_up() -> None:
    async def dom0(xen: Domain) -> None:
        await xen.store.wait_for(f"/local/domain/{await xen.find('guest')}/data/done")

    async def guest(xen: Domain) -> None:
        waiting = [
            asyncio.create_task(vchan.connect(xen, 0, f"data/{number}")) for number in range(140)
        ]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        error = done.pop().exception()
        assert isinstance(error, QuotaError)
        assert error.quota == "watches"
        assert f"domain {xen.domid} has used up its quota of watches" in str(error)
        assert "128 watches" in str(error)
        await xen.store.write("data/done", "1")

    run(dom0, guest)
