"""The console's two ends, both of them ours, over the handshake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from anyio import BrokenResourceError, EndOfStream
from patience import patience

from activations import Domain, Scenario
from activations.drivers import console
from activations.drivers.console import Console
from activations.xenbus import Device, front_device, plug, unplug

KIND = "pyconsole"  # a guest's Linux has a driver of its own for `console`
MUCH = 40_000
PATIENCE = patience(60)


def noise(seed: int) -> bytes:
    return Random(seed).randbytes(MUCH)


async def received(tty: Console, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await tty.receive(size - len(data))
    return bytes(data)


async def exchange(tty: Console, own: int, others: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(tty.send(noise(own)))
        assert await received(tty, MUCH) == noise(others)


async def plugged(xen: Domain, devid: int) -> Device:
    device = Device(KIND, devid, await xen.find("guest"), 0)
    await plug(xen, device)
    return device


# What is printed is read, and what is typed arrives, at once and more than the rings hold

both_ways = Scenario("what is printed is read and what is typed arrives")


@both_ways.domain("dom0")
async def reads_and_types(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        device = await plugged(xen, 1)
        async with console.serve(xen, device) as tty:
            await exchange(tty, 1, 2)
            await unplug(xen, device)
    assert not xen.grants.open


@both_ways.domain("guest")
async def prints(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        device = await front_device(xen, KIND, 1)
        async with console.open(xen, device) as tty:
            await exchange(tty, 2, 1)
            with suppress(EndOfStream):
                assert not await tty.receive(), "nothing more is typed"
    assert not xen.grants.open


# A console outlives its back end, and ends with the device

outlives = Scenario("a console waits for another back end and ends with the device")
QUESTION = b"login: "


@outlives.domain("dom0")
async def asks_twice(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        device = await plugged(xen, 2)
        for name in (b"first", b"again"):
            async with console.serve(xen, device) as tty:
                await tty.send(QUESTION)
                assert await received(tty, 5) == name
        await unplug(xen, device)
    assert not xen.grants.open


@outlives.domain("guest")
async def answers(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        device = await front_device(xen, KIND, 2)
        async with console.open(xen, device) as tty:
            for name in (b"first", b"again"):
                assert await received(tty, len(QUESTION)) == QUESTION
                await tty.send(name)
            with suppress(EndOfStream):
                assert not await tty.receive(), "nothing more is typed"
            with suppress(BrokenResourceError):
                await tty.send(b"x")
                raise AssertionError("nobody can read it")
    assert not xen.grants.open
