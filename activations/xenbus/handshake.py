"""One end of a device, for as long as the device lives.

    async with FrontEnd(xen, device, driver) as end:
        await end.connected(within=10)
        ...

An end watches the other's state and its own, asks the table (`activations.xenbus.states`) what to
do, has its driver do it, and writes where it stands now. A driver knows nothing of that: the other
end may die and come back, and the driver is asked to publish or to offer once more.

A suspend is to an end what its own death is: rings, ports and watches are gone, and what it said
last stands in xenstore. So after the resume it begins as one that died and came back.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from errno import EACCES, EIO, ENOENT
from types import TracebackType
from typing import ClassVar, Self

from activations.abi.xenbus import XenbusState as State
from activations.domain import Domain
from activations.errors import ActivationsError
from activations.store import Nodes, StoreError, Watch
from activations.xenbus.device import Device, Side
from activations.xenbus.diagnosis import explain
from activations.xenbus.driver import BackDriver, Driver, FrontDriver, Written
from activations.xenbus.errors import HandshakeTimeout, Unplugged, XenbusError
from activations.xenbus.keys import Keys, read_keys
from activations.xenbus.states import BACK, FRONT, Phase, Step, Table, next_step

PATIENCE = 5.0
"""Seconds for which an end that leaves waits for the other to let go too."""


class Handshake(ABC):
    """What both ends have in common. `phase` is where this end stands."""

    side: ClassVar[Side]
    other: ClassVar[Side]
    table: ClassVar[Table]
    patient: ClassVar[Phase]
    """Where this end stands while it has nothing yet, and waits for the other."""

    def __init__(self, xen: Domain, device: Device, driver: Driver) -> None:
        self.device = device
        self.phase = Phase.FRESH
        self.failure = ""
        """Why the device was closed, if something was wrong with it; until it connects again."""
        self.driver = driver
        self._xen = xen
        self._generation = xen.generation
        self._store = xen.store
        self._path = device.path(self.side)
        self._log = xen.log.bind(device=str(device), end=self.side)
        self._keys: Keys | None = None
        self._engaged = False
        self._serving: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.device}: {self.phase.name}>"

    # Running

    async def run(self) -> None:
        """Until the device is unplugged. Cancelled, it parts from the other end first.

        Raises what a driver raises that is no `ActivationsError`, and `StoreClosed`.
        """
        try:
            try:
                await self._despite_suspends(self._follow)
            finally:
                await self._despite_suspends(self._part)
        finally:
            await self._stop()
            self._enter(Phase.UNPLUGGED)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.run(), name=f"{self.side} end of {self.device}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        hurried: asyncio.CancelledError | None = None
        while not self._running.done():
            try:
                await asyncio.wait([self._running])
            except asyncio.CancelledError as again:  # it need not part, but give back
                hurried = again
                self._running.cancel()
        if not self._running.cancelled() and (failure := self._running.exception()):
            raise failure
        if hurried is not None:
            raise hurried

    async def connected(self, within: float | None = None) -> None:
        """Wait until both ends are connected.

        Raises `HandshakeTimeout`, which says where each end stands and what is missing, and
        `Unplugged` if the device is gone, maybe with the other end's domain. What else ended this
        end is raised where its block is left.
        """
        await self.reached(Phase.CONNECTED, within=within)

    async def reached(self, *phases: Phase, within: float | None = None) -> None:
        """Wait until this end stands at one of these; raises as `connected` does."""
        try:
            async with asyncio.timeout(within):
                while self.phase not in phases:
                    if self.phase is Phase.UNPLUGGED:
                        raise Unplugged(f"{self.device} is gone")
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise HandshakeTimeout(await self.explain()) from None

    async def phases(self) -> AsyncGenerator[Phase, None]:
        """Where this end stands: now, and each time it has moved; a phase that it only passed
        through may be left out. Ends when the device is gone."""
        seen: Phase | None = None
        while seen is not Phase.UNPLUGGED:
            if self.phase is seen:
                self._moved.clear()
                await self._moved.wait()
            else:
                seen = self.phase
                yield seen

    async def explain(self) -> str:
        """Where each end stands, and what is missing, in a sentence or two."""
        return await explain(self._xen.store, self.device, self.failure)

    # The loop

    async def _despite_suspends(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; where the domain is suspended meanwhile, give back what is left and begin anew."""
        while True:
            self._generation, self._store = self._xen.generation, self._xen.store
            try:
                return await work()
            except ActivationsError:
                if not self._suspended:
                    raise
            self._log.debug("begins anew after a suspend")
            await self._stop()
            if self.phase is not Phase.FAILED:
                self._enter(Phase.FRESH)

    @property
    def _suspended(self) -> bool:
        """Whether the domain was, since this end last began. Whatever fails then fails of that."""
        return self._xen.generation != self._generation

    async def _follow(self) -> None:
        """Do what the table says until this end's folder is gone, or the toolstack unplugs it."""
        look = self._look
        async with self._watching("front", look), self._watching("back", look):
            if self.phase is Phase.FRESH and await self._state(self._path) not in _UNTOUCHED:
                self._enter(Phase.RESUMED)
            while self.phase is not Phase.UNPLUGGED:
                look.clear()
                if not await self._plugged():
                    break
                if await self._move():
                    continue
                await look.wait()

    async def _move(self) -> bool:
        """Take the next step, if there is one."""
        if self._serving is not None and self._serving.done():
            await self._fail(_reason(self._serving))
            return True
        other = await self._other_state()
        todo = next_step(self.table, self.phase, other)
        try:
            if todo is None:
                await self._reread()
                return False
            await self._take(*todo)
        except ActivationsError as error:
            if await self._other_state() is other:
                await self._fail(error)
            else:  # it went on meanwhile: what it says now counts, not what it had said before
                await self._leave(self.patient)
                self._enter(self.patient)
        return True

    async def _take(self, step: Step, to: Phase) -> None:
        match step:
            case Step.LEAVE:
                await self._leave(to)
            case Step.CONNECT:
                self._engaged = True
                self._keys = await self._other_keys()
                await self._connect(self._keys)
                self.failure = ""
                await self._say(to)
                self._serving = asyncio.create_task(
                    self.driver.serve(), name=f"{self.side} end of {self.device} serves"
                )
                self._serving.add_done_callback(lambda _: self._look.set())
            case Step.OFFER | Step.PUBLISH:
                self._engaged = True
                await self._begin()
                await self._say(to)
            case Step.RECONFIGURE:
                await self._reread()
                await self._say(to)
            case Step.REST:
                await self._say(to)
        self._enter(to)

    @abstractmethod
    async def _begin(self) -> None:
        """Write what this end has to say first."""

    @abstractmethod
    async def _connect(self, keys: Keys) -> None:
        """Have the driver take the other end's keys."""

    @abstractmethod
    async def _leave(self, to: Phase) -> None:
        """Stop, give everything back, and say so, in this end's order."""

    @abstractmethod
    async def _part(self) -> None:
        """This program is done with the device: agree with the other end that it is over, as far
        as that one cares to."""

    @abstractmethod
    async def _plugged(self) -> bool:
        """Whether there is a device still; notes it if the toolstack wants it gone.

        A back end's is gone with the front end's folder too: with its guest."""

    @abstractmethod
    async def _reread(self) -> None:
        """Take the other end's keys if they changed while in use."""

    async def _fail(self, error: BaseException) -> None:
        """Close the device, with the reason where people look for it."""
        if not isinstance(error, ActivationsError) or self._suspended:
            raise error
        self.failure = str(error)
        self._log.error("device closed", reason=self.failure)
        node = f"{self.device.error_path(self.side)}/error"
        number = getattr(error, "errno", None) or EIO
        with suppress(StoreError):
            await self._store.write(node, f"{number} {self.failure}"[:1024])
        await self._leave(Phase.FAILED)
        self._enter(Phase.FAILED)

    # What they are made of

    async def _until_other(self, *states: State) -> None:
        """Wait for the other end to say one of these, for `PATIENCE` at most.

        Without `asyncio.timeout`: this end is cancelled already when it parts, and Python before
        3.11.3 takes a time-out for one more cancellation then.
        """
        loop, look = asyncio.get_running_loop(), self._look
        deadline = loop.time() + PATIENCE
        alarm = loop.call_later(PATIENCE, look.set)
        try:
            async with self._watching(self.other, look):
                while loop.time() < deadline:
                    look.clear()  # before the look: what comes during it asks for another
                    if await self._other_state() in states:
                        return
                    await look.wait()
        finally:
            alarm.cancel()

    def _watching(self, side: Side, look: asyncio.Event) -> Watch:
        return self._store.watch(f"{self.device.path(side)}/state", arrived=look)

    async def _other_state(self) -> State:
        return await self._state(self.device.path(self.other))

    async def _state(self, path: str, nodes: Nodes | None = None) -> State:
        try:
            return State(int(await (nodes or self._store).read(f"{path}/state")))
        except (StoreError, ValueError) as error:
            if isinstance(error, StoreError) and error.errno not in (ENOENT, EACCES):
                raise
            return State.UNKNOWN

    async def _other_keys(self) -> Keys:
        owner = f"the {self.other} end of {self.device} (domain {self.device.domid(self.other)})"
        return await read_keys(self._store, owner, self.device.path(self.other))

    async def _write(self, keys: Written) -> None:
        async def change(nodes: Nodes) -> None:
            for name, value in keys.items():
                await nodes.write(f"{self._path}/{name}", value)

        await self._store.transact(change)

    async def _say(self, phase: Phase) -> None:
        """Write the state that goes with a phase, if the folder is there still: a write would make
        it anew."""
        says = self._says(phase)
        if says is None:
            return

        async def change(nodes: Nodes) -> None:
            if await nodes.exists(self._path) and not await self._overruled(nodes, says):
                await nodes.write(f"{self._path}/state", int(says))

        await self._store.transact(change)

    async def _overruled(self, nodes: Nodes, says: State) -> bool:
        """Whether somebody else's word stands there, which this end has to see first."""
        return False

    def _says(self, phase: Phase) -> State | None:
        return phase.says

    def _enter(self, phase: Phase) -> None:
        if phase is not self.phase:
            self._log.debug("phase", was=self.phase.name, now=phase.name)
            self.phase = phase
            self._moved.set()

    async def _stop(self) -> None:
        """Serve no more, and have the driver give back what it holds."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.wait([serving])
            if not serving.cancelled() and (error := serving.exception()):
                self._log.debug("served no more", reason=str(error))
        if self._engaged:
            self._engaged = False
            await self.driver.disconnect()


class FrontEnd(Handshake):
    """The front end: `driver` is told when there is a back end, and when it goes."""

    side, other, table, patient = "front", "back", FRONT, Phase.WAITING

    def __init__(self, xen: Domain, device: Device, driver: FrontDriver) -> None:
        super().__init__(xen, device, driver)
        self._front = driver

    async def _begin(self) -> None:
        await self._write(await self._front.publish(await self._other_keys()))

    async def _connect(self, keys: Keys) -> None:
        await self._front.connect(keys)

    async def _reread(self) -> None:
        if self.phase in (Phase.CONNECTED, Phase.RECONFIGURING):
            keys = await self._other_keys()
            if self._keys is None or _lasting(keys) != _lasting(self._keys):
                self._keys = keys
                await self._front.reconfigure(keys)

    async def _leave(self, to: Phase) -> None:
        await self._say(to)
        await self._stop()

    async def _part(self) -> None:
        if self.phase in (Phase.PUBLISHED, Phase.CONNECTED, Phase.RECONFIGURING):
            await self._say(Phase.CLOSING)
            await self._until_other(State.CLOSING, State.CLOSED, State.UNKNOWN, *_ANEW)
        await self._say(Phase.CLOSED)

    async def _plugged(self) -> bool:
        return await self._state(self._path) is not State.UNKNOWN

    def _says(self, phase: Phase) -> State | None:
        return self._front.published if phase is Phase.PUBLISHED else phase.says


class BackEnd(Handshake):
    """The back end: `driver` is told when there is a front end, and when it goes."""

    side, other, table, patient = "back", "front", BACK, Phase.OFFERED

    def __init__(self, xen: Domain, device: Device, driver: BackDriver) -> None:
        super().__init__(xen, device, driver)
        self._back = driver

    async def update(self, keys: Written) -> None:
        """Change this end's keys while in use, as when a disk grows. A front end that cares
        looks again."""
        await self._write(keys)
        await self._say(self.phase)

    async def _begin(self) -> None:
        await self._write(await self._back.offer())

    async def _connect(self, keys: Keys) -> None:
        await self._write(await self._back.connect(keys))

    async def _leave(self, to: Phase) -> None:
        await self._stop()
        await self._say(to)

    async def _reread(self) -> None:
        """A front end's keys do not change while in use."""

    async def _part(self) -> None:
        if self.phase in (Phase.CONNECTED, Phase.UNPLUGGING):
            await self._say(Phase.CLOSING)
            await self._until_other(State.CLOSED, State.UNKNOWN, *_ANEW)
        await self._leave(Phase.CLOSED)

    async def _plugged(self) -> bool:
        own = await self._state(self._path)
        if await self._asked_to_part(own, self._store):
            self._enter(Phase.UNPLUGGING)
        return own is not State.UNKNOWN and await self._store.exists(self.device.front_path)

    async def _overruled(self, nodes: Nodes, says: State) -> bool:
        if says in (State.CLOSING, State.CLOSED):
            return False
        return await self._asked_to_part(await self._state(self._path, nodes), nodes)

    async def _asked_to_part(self, own: State, nodes: Nodes) -> bool:
        """Whether the toolstack has written what stands where this end's state is. Where this end
        says Closing itself, or an earlier life of it did, the key `online` tells."""
        if own is not State.CLOSING:
            return False
        if self.phase is not Phase.RESUMED and self.phase.says is not State.CLOSING:
            return True
        try:
            return await nodes.read(f"{self._path}/online") != "1"
        except StoreError as error:
            if error.errno not in (ENOENT, EACCES):
                raise
            return True


_PASSING = frozenset({"state", "online"})


def _lasting(keys: Keys) -> dict[str, str]:
    """The keys that describe the device, and not how things stand."""
    return {name: value for name, value in keys.items() if name not in _PASSING}


_UNTOUCHED = (State.UNKNOWN, State.INITIALISING)
_ANEW = (State.INITIALISING, State.INIT_WAIT)


def _reason(serving: asyncio.Task[None]) -> BaseException:
    """Why a driver serves no more; of several reasons the first."""
    error: BaseException | None = None if serving.cancelled() else serving.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error or XenbusError("the driver has stopped")
