"""TAP devices of this machine's kernel, and a simulated guest behind one."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pyroute2 import AsyncIPRoute
from support.needs import leave_out
from support.pace import patience

import activations
from activations import Domain
from activations.drivers import net
from activations.drivers.net import NicClosed, Tap
from activations.xenbus import Device, Phase, front_device, plug, unplug
from xen_sim import Machine

KIND = 0x88B5
"""Frames for experiments: IEEE's own number for them."""
MAC = bytes([0, 0x16, 0x3E, 0, 0, 1])


@pytest.fixture(autouse=True)
def may_make_devices() -> None:
    try:
        Tap().close()
    except OSError as error:
        leave_out("TAP devices", f"cannot be made here: {error.strerror}")


def frame(data: bytes, to: bytes = b"\xff" * 6) -> bytes:
    return to + MAC + KIND.to_bytes(2, "big") + data.ljust(46, b"\0")


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def on(xen: Domain) -> None:
        async with asyncio.timeout(patience(30)):
            await main()

    activations.run(on, clock="wall")


@asynccontextmanager
async def this_end(tap: Tap) -> AsyncIterator[socket.socket]:
    """The kernel's end of a device, up, as a socket for such frames."""
    await link(tap, "set", state="up")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND)) as packets:
        packets.bind((tap.name, KIND))
        packets.setblocking(False)
        yield packets


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Tap, socket.socket]]:
    """A device's two ends."""
    with Tap() as tap:
        async with this_end(tap) as packets:
            yield tap, packets


async def link(tap: Tap, what: str, **how: str) -> None:
    """Have the kernel do something with a device."""
    async with AsyncIPRoute() as netlink:
        await netlink.link(what, index=socket.if_nametoindex(tap.name), **how)


async def ours(tap: Tap) -> bytes:
    """The next frame of this test's: a kernel sends more through a device that is up."""
    while True:
        each = await tap.receive()
        if each[12:14] == KIND.to_bytes(2, "big"):
            return each


def test_frames_pass_both_ways() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with opened() as (tap, packets):
            for number in range(20):
                await tap.send(frame(b"in %d" % number))
                assert await loop.sock_recv(packets, 2000) == frame(b"in %d" % number)
                packets.send(frame(b"out %d" % number))
                assert await ours(tap) == frame(b"out %d" % number)
            assert tap.dropped == 0

    run(main)


def test_a_device_that_is_down_drops_and_says_so() -> None:
    async def main() -> None:
        with Tap() as tap:
            await tap.send(frame(b"nobody"))
            assert tap.dropped == 1
            assert tap.receive_nowait() is None

    run(main)


def test_a_device_that_was_down_goes_on_once_it_is_up() -> None:
    async def main() -> None:
        async with opened() as (tap, _):
            receiving = asyncio.create_task(ours(tap))
            await link(tap, "set", state="down")
            await tap.send(frame(b"nobody"))
            assert tap.dropped == 1
            async with this_end(tap) as packets:
                packets.send(frame(b"up again"))
                assert await receiving == frame(b"up again")

    run(main)


def test_removing_a_device_tells_who_receives_and_who_sends() -> None:
    async def main() -> None:
        with Tap() as tap:
            receiving = asyncio.create_task(tap.receive())
            await asyncio.sleep(0)
            await link(tap, "del")
            with pytest.raises(NicClosed, match="was removed"):
                await receiving
            with pytest.raises(NicClosed, match="was removed"):
                await tap.send(frame(b"?"))
            with pytest.raises(NicClosed, match="was removed"):
                tap.receive_nowait()

    run(main)


def test_closing_a_device_tells_all_who_receive_and_removes_it() -> None:
    async def main() -> None:
        tap = Tap()
        name = tap.name
        assert name in {each for _, each in socket.if_nameindex()}
        receiving = [asyncio.create_task(tap.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        tap.close()
        tap.close()
        for each in receiving:
            with pytest.raises(NicClosed, match=name):
                await each
        with pytest.raises(NicClosed):
            await tap.send(frame(b""))
        assert name not in {each for _, each in socket.if_nameindex()}

    run(main)


def test_cancelling_a_receiver_leaves_the_others() -> None:
    async def main() -> None:
        async with opened() as (tap, packets):
            first, second = (asyncio.create_task(ours(tap)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            packets.send(frame(b"still here"))
            assert await second == frame(b"still here")

    run(main)


def test_a_name_can_be_asked_for_and_is_had_once() -> None:
    name = f"t{os.getpid()}"
    with Tap(name) as tap:
        assert tap.name == name
        with pytest.raises(OSError, match="busy"):
            Tap(name)
    with pytest.raises(ValueError, match="15 bytes at most"):
        Tap("a-name-too-long-")


def test_a_back_end_whose_device_is_removed_closes_and_says_why() -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("vif", 0, 1, 0)
        with Tap() as tap:
            await plug(xen, device, front={"mac": MAC.hex(":")})
            async with net.serve(xen, device, tap) as end:
                await end.connected()
                await link(tap, "del")
                await end.reached(Phase.CLOSED, within=10)
                assert end.failure == f"the TAP device {tap.name} was removed"
            await unplug(xen, device)

    async def guest(xen: Domain) -> None:
        async with net.open(xen, await front_device(xen, "vif", 0)) as nic:
            with pytest.raises(NicClosed):
                await nic.receive()

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_whoever_needs_no_device_of_the_kernel_s_imports_no_library_for_it() -> None:
    """Nor one for packets: imports are slow where the drivers run."""
    program = "import sys, activations.drivers.net.back, activations.drivers.net.front as front\n"
    program += "print(*sorted({'dpkt', 'pyroute2', 'pytun_pmd3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b""


def test_a_simulated_guest_is_on_this_machine_s_network() -> None:
    """From the kernel's socket through the TAP device, netback, netfront, and back."""

    async def dom0(xen: Domain) -> list[bytes]:
        loop = asyncio.get_running_loop()
        device = Device("vif", 0, 1, 0)
        heard = []
        async with opened() as (tap, packets):
            await plug(xen, device, front={"mac": MAC.hex(":")})
            async with net.serve(xen, device, tap) as end:
                await end.connected()
                for number in range(20):
                    packets.send(frame(b"%d" % number, to=MAC))
                    heard.append((await loop.sock_recv(packets, 2000))[14:].rstrip(b"\0"))
                await unplug(xen, device)
        return heard

    async def guest(xen: Domain) -> None:
        async with net.open(xen, await front_device(xen, "vif", 0)) as nic:
            with pytest.raises(NicClosed):
                while True:
                    each = await nic.receive()
                    if each[:6] == nic.mac:
                        await nic.send(each[6:12] + each[:6] + each[12:])

    machine = Machine(clock="wall")
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    assert machine.run()["dom0"] == [b"%d" % number for number in range(20)]
