"""A device whose two ends live many lives, each in its own way, along a script.

dom0 and a guest take turns: each step is one domain's, and the next begins when it is done. What a
step has begun, a life or a write, goes on meanwhile. A life ends in good order, or it dies: then
its ports and pages go as its kernel takes them back, and xenstore is as it was.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from activations import Domain, leftovers
from activations.drivers.block import front as blkfront
from activations.drivers.net import front as netfront
from activations.store import Nodes, Store
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontEnd,
    Handshake,
    Phase,
    XenbusError,
    front_device,
    plug,
    unplug,
)
from activations.xenbus.keys import read_keys
from activations.xenbus.toolstack import make
from xen_sim import Machine

SOON = 60.0
"""Seconds in which what can happen has happened."""
FOR_EVER = 1e9
FOLDERS = ("backs", "others")
"""Where a back end may have its folder."""


class Kind(ABC):
    """What the device is, and what is done with it. Kept over all lives."""

    name: str
    front_keys: ClassVar[dict[str, str | int]]
    gone: type[Exception]
    """What users are told of a device that is gone."""

    @abstractmethod
    def front(self, xen: Domain, device: Device, options: Any) -> AbstractAsyncContextManager[Any]:
        """A life of the front end."""

    @abstractmethod
    def back(self, xen: Domain, device: Device, options: Any) -> BackDriver:
        """What a life of the back end drives."""

    @abstractmethod
    async def prove(self, front: Any) -> None:
        """The device works, and has lost nothing that it may not lose; with its front end's user,
        once both ends are connected."""

    @abstractmethod
    async def finished(self) -> None:
        """Wait for what was begun, once nothing can hold it up."""

    @abstractmethod
    async def ask(self, front: Any) -> None:
        """Something for which a front end's user waits."""


class Mortal(Handshake):
    """An end that may die."""

    dead = False

    async def _part(self) -> None:
        if not self.dead:
            await super()._part()


class MortalBack(Mortal, BackEnd):
    pass


class Life:
    """An end's life, from when somebody begins it. `thing` is what its user has, once connected."""

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self.thing: Any = None
        self.begun = asyncio.Event()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._live(context))

    async def _live(self, context: AbstractAsyncContextManager[Any]) -> None:
        async with context as self.thing:
            self.begun.set()
            await self._over.wait()

    def end(self) -> asyncio.Task[None]:
        """Have it end; the task that does so."""
        if self.thing is None:
            self._task.cancel()
        self._over.set()
        return self._task


class World:
    """The two domains, and what is known of the ends' lives."""

    def __init__(self, kind: Kind, *, seed: int | None) -> None:
        self.kind = kind
        self.machine = Machine(seed=seed)
        self.device: Device | None = None
        self.front: Life | None = None
        self.back: Life | None = None
        self.ends: dict[str, Mortal] = {}
        """The last of each side."""
        self.clean: set[str] = set()
        """What is in xenstore while there is no device."""
        self.dying: list[asyncio.Task[None]] = []
        """The guest's, whose pages the back end still maps."""
        self._script: list[tuple[str, Callable[[Domain], Coroutine[Any, Any, None]]]] = []
        self._at = 0
        self._turns: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    # The script

    def then(self, domain: str, step: Callable[[Domain], Coroutine[Any, Any, None]]) -> None:
        """What is to be done next, and where."""
        self._script.append((domain, step))

    def play(self) -> None:
        """Do all of it, with a user of the guest's at the end who finds all in order."""
        world = self

        class MortalFront(Mortal, FrontEnd):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                world.ends["front"] = self

        with pytest.MonkeyPatch.context() as patch:
            for module in (blkfront, netfront):
                patch.setattr(module, "FrontEnd", MortalFront)
            patch.setattr(leftovers, "LINGER", FOR_EVER)  # as a kernel waits for what is mapped
            for name in ("dom0", "guest"):
                self.machine.boot(name, self._main)
            self.machine.run()

    async def _main(self, xen: Domain) -> None:
        _ = xen.store
        await xen.store.get_domain_path(0)
        before = set(xen.events.ports)
        for number, (domain, step) in enumerate(self._script):
            await self._until(number)
            if domain == xen.name:
                await step(xen)
                self._at += 1
                for loop, event in self._turns:
                    loop.call_soon_threadsafe(event.set)
                self._turns.clear()
        await self._until(len(self._script))
        assert len(xen.events.ports) == len(before)
        assert not xen.grants.open

    async def _until(self, number: int) -> None:
        while self._at < number:
            self._turns.append((asyncio.get_running_loop(), event := asyncio.Event()))
            await event.wait()

    # Steps of either domain

    def suspend(self, domain: str) -> None:
        async def step(xen: Domain) -> None:
            self.machine.suspend(xen.loop)

        self.then(domain, step)

    def turns(self, domain: str, number: int) -> None:
        """So many of the domain's loop, while the other's goes on too."""

        async def step(xen: Domain) -> None:
            for _ in range(number):
                await asyncio.sleep(0)

        self.then(domain, step)

    def wait(self, seconds: float) -> None:
        async def step(xen: Domain) -> None:
            await asyncio.sleep(seconds)

        self.then("dom0", step)

    # The front end's

    def front_begins(self, options: Any) -> None:
        async def step(xen: Domain) -> None:
            device = await front_device(xen, self.kind.name, 0)
            self.ends.pop("front", None)
            self.front = Life(self.kind.front(xen, device, options))

        self.then("guest", step)

    def front_ends(self, *, dies: bool) -> None:
        async def step(xen: Domain) -> None:
            assert self.front is not None
            if "front" in self.ends:  # else it has not come so far
                self.ends["front"].dead = dies
            ending = self.front.end()
            if dies:
                self.dying.append(ending)
            else:
                await self._ended(ending)
            self.front = None

        self.then("guest", step)

    def asks(self) -> None:
        async def step(xen: Domain) -> None:
            if self.front is not None and self.front.thing is not None:
                await self.kind.ask(self.front.thing)

        self.then("guest", step)

    def proves(self) -> None:
        """Both ends live: they connect, and all is done that was asked for."""

        async def step(xen: Domain) -> None:
            assert self.front is not None
            async with asyncio.timeout(SOON):
                await self.front.begun.wait()
            await self.ends["front"].connected(within=SOON)
            async with asyncio.timeout(SOON):
                await self.kind.prove(self.front.thing)

        self.then("guest", step)

    def sees_it_gone(self) -> None:
        """The front end's user is told, and leaves."""

        async def step(xen: Domain) -> None:
            if self.front is None:
                return
            if "front" in self.ends:
                await self.ends["front"].reached(Phase.UNPLUGGED, within=SOON)
            if self.front.thing is not None:
                with pytest.raises(self.kind.gone):
                    await self.kind.prove(self.front.thing)
            await self._ended(self.front.end())
            self.front = None

        self.then("guest", step)

    def guest_finishes(self) -> None:
        async def step(xen: Domain) -> None:
            async with asyncio.timeout(SOON):
                for ending in self.dying:
                    await self._ended(ending)
                await self.kind.finished()
            await asyncio.sleep(SOON)

        self.then("guest", step)

    async def _ended(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task], timeout=SOON)
        assert task.done(), "a life does not end"
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, XenbusError | self.kind.gone):
            raise error

    # The back end's

    def back_begins(self, options: Any) -> None:
        async def step(xen: Domain) -> None:
            assert self.device is not None
            end = MortalBack(xen, self.device, self.kind.back(xen, self.device, options))
            self.ends["back"] = end
            self.back = Life(end)

        self.then("dom0", step)

    def back_ends(self, *, dies: bool) -> None:
        async def step(xen: Domain) -> None:
            assert self.back is not None
            await asyncio.sleep(0)
            self.ends["back"].dead = dies
            await self._ended(self.back.end())
            self.back = None
            assert not xen.grants.open

        self.then("dom0", step)

    # The toolstack's

    def plugs(self, folder: str) -> None:
        async def step(xen: Domain) -> None:
            guest = await xen.find("guest")
            self.clean = self.clean or await everything(xen.store)
            self.device = Device(self.kind.name, 0, guest, 0, folder)
            await plug(xen, self.device, front=self.kind.front_keys)

        self.then("dom0", step)

    def unplugs(self, *, force: bool) -> None:
        """Nothing is left of it. A front end that lives lets go by itself."""

        async def step(xen: Domain) -> None:
            assert self.device is not None
            await unplug(xen, self.device, within=10, force=force)
            await self._back_is_told()
            assert await everything(xen.store) == self.clean

        self.then("dom0", step)
        self.sees_it_gone()

        async def look_again(xen: Domain) -> None:
            assert await everything(xen.store) == self.clean
            self.device = None

        self.then("dom0", look_again)

    def moves(self, folder: str) -> None:
        """Removes it by force and makes it anew elsewhere, in one step. What had to do with it is
        told, and writes nothing into the new one."""
        made: dict[str, str] = {}

        async def step(xen: Domain) -> None:
            assert self.device is not None
            old = self.device
            self.device = replace(old, served_as=folder)

            new = self.device

            async def change(nodes: Nodes) -> None:
                await nodes.rm(old.back_path)
                await make(nodes, new, front=self.kind.front_keys)

            await xen.store.transact(change)
            made.update(await keys_of(xen.store, self.device))
            await self._back_is_told()

        self.then("dom0", step)
        self.sees_it_gone()

        async def look_again(xen: Domain) -> None:
            assert self.device is not None
            assert await keys_of(xen.store, self.device) == made

        self.then("dom0", look_again)

    async def _back_is_told(self) -> None:
        if self.back is not None:
            await self.ends["back"].reached(Phase.UNPLUGGED, within=SOON)
            await self._ended(self.back.end())
            self.back = None


async def everything(store: Store, path: str = "") -> set[str]:
    """All nodes that have a value, with it."""
    found = set()
    for name in await store.list(path or "/"):
        each = f"{path}/{name}"
        if value := await store.read(each):
            found.add(f"{each} = {value}")
        found |= await everything(store, each)
    return found


async def keys_of(store: Store, device: Device) -> dict[str, str]:
    """What both folders hold."""
    return {
        key: value
        for path in (device.front_path, device.back_path)
        for key, value in (await read_keys(store, path, path)).items()
    }
