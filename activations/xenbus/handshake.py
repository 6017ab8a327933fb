"""One end of a device, for as long as the device lives.

    async with FrontEnd(xen, device, driver) as end:
        await end.connected(within=10)
        ...

An end watches the other's state and its own, asks the tables (`activations.xenbus.states`) what to
do, has its driver do it, and writes where it stands now (`activations.xenbus.folder`). A driver
knows nothing of that: the other end may die and come back, and the driver is asked to publish or to
offer once more. What the two ends do each in its own way is in `activations.xenbus.ends`.

A suspend is to an end what its own death is: rings, ports and watches are gone, and what it said
last stands in xenstore. So after the resume it begins as one that died and came back. So it does
where the toolstack makes the device anew in its old place.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from errno import EIO
from typing import ClassVar, Self

from activations.abi.xenbus import XenbusState as State
from activations.domain import Domain
from activations.errors import ActivationsError
from activations.own import ended, finish, own
from activations.store import StoreError
from activations.xenbus.device import Device, Side
from activations.xenbus.diagnosis import explain
from activations.xenbus.driver import Driver
from activations.xenbus.errors import HandshakeTimeout, Unplugged, XenbusError
from activations.xenbus.folder import Folder, Heard
from activations.xenbus.keys import Keys
from activations.xenbus.states import Phase, Step, Table, next_step

PATIENCE = 5.0
"""Seconds for which an end that leaves waits for the other to let go too."""
_UNTOUCHED = (State.UNKNOWN, State.INITIALISING)


ANEW_SECONDS = 1.0
"""In which an end that begins anew has said so."""


class Handshake(ABC):
    """What both ends have in common. `phase` is where this end stands."""

    side: ClassVar[Side]
    other: ClassVar[Side]
    table: ClassVar[Table]
    again: ClassVar[Table]
    """What is to be done where the other end says what it said, with other keys."""

    def __init__(self, xen: Domain, device: Device, driver: Driver) -> None:
        self.device: Device = device
        self.phase: Phase = Phase.FRESH
        self.failure: str = ""
        """Why the device was closed, if something was wrong with it; until it connects again."""
        self.driver = driver
        self._xen = xen
        self._store = xen.store
        self._folder = Folder(xen.store, device, self.side)
        self._log = xen.log.bind(device=str(device), end=self.side)
        self._keys: Keys | None = None
        """The other end's, as this one took them last."""
        self._engaged = False
        self._serving: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.device}: {self.phase.name}>"

    # Running

    async def run(self) -> None:
        """Until the device is unplugged. Cancelled, however often, it parts from the other end
        first.

        Raises what a driver raises that is no `ActivationsError`, and `StoreClosed`.
        """
        try:
            await self._despite_suspends(self._follow)
        finally:
            await finish(self._go(), name=f"{self.side} end of {self.device} parts")

    async def __aenter__(self) -> Self:
        running = asyncio.create_task(self.run(), name=f"{self.side} end of {self.device}")
        self._running = own(running)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._running is not None
        running = self._running
        running.cancel()
        try:
            await ended(running)
        finally:  # not done where this coroutine is closed, with a run that is over
            if running.done() and not running.cancelled() and (failure := running.exception()):
                raise failure

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

    async def finished(self, within: float | None = None) -> None:
        """Wait until the other end has used the device and left, or the device is gone, as with a
        guest that ends. One that is closed for less than a second was suspended, or lost its store,
        and begins anew: then it is waited for again, `within` seconds from there. Raises
        `HandshakeTimeout`."""
        while True:
            await self.reached(Phase.CLOSED, Phase.UNPLUGGED, within=within)
            if self.phase is Phase.UNPLUGGED or not await self._begins_anew():
                return

    async def _begins_anew(self) -> bool:
        """Whether the other end, which has closed, does."""
        try:
            async with asyncio.timeout(ANEW_SECONDS):
                while self.phase is Phase.CLOSED:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return self.phase is not Phase.UNPLUGGED

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
            try:
                return await work()
            except ActivationsError:
                if not self._suspended:
                    raise
            self._log.debug("begins anew, after a suspend or with another xenstored")
            await self._stop()
            self._store = self._xen.store
            self._folder = Folder(self._xen.store, self.device, self.side)
            self._keys = None
            if self.phase is not Phase.FAILED:
                self._enter(Phase.FRESH)

    @property
    def _suspended(self) -> bool:
        """Whether the domain was, or xenstored went away, since this end last began: either way the
        store is another one. Whatever fails then fails of that."""
        return self._xen.store is not self._store

    async def _follow(self) -> None:
        """Do what the tables say until the device is gone, or the toolstack unplugs it."""
        await self._find()
        look = self._look
        async with self._folder.watch("front", look), self._folder.watch("back", look):
            if self.phase is Phase.FRESH and await self._folder.state() not in _UNTOUCHED:
                self._enter(Phase.RESUMED)
            while self.phase is not Phase.UNPLUGGED:
                look.clear()
                if not await self._plugged():
                    break
                if await self._move():
                    continue
                await look.wait()

    @abstractmethod
    async def _find(self) -> None:
        """Know where the device is, which a suspend may have moved."""

    def _moved_to(self, device: Device) -> None:
        self.device = device
        self._folder = Folder(self._xen.store, device, self.side)
        self._log = self._log.bind(device=str(device))

    async def _plugged(self) -> bool:
        """Whether there is a device still; begins anew with one that the toolstack has made anew
        in its old place."""
        said, own = self._folder.said, await self._folder.state()
        if own is State.UNKNOWN:
            return False
        self._folder.said = own
        if own is State.INITIALISING and said not in (None, own):
            await self._leave(Phase.FRESH)
            self._enter(Phase.FRESH)
        return True

    async def _move(self) -> bool:
        """Take the next step, if there is one."""
        if self._serving is not None and self._serving.done():
            await self._fail(_reason(self._serving))
            return True
        other = await self._folder.other_state()
        try:
            todo = next_step(self.table, self.phase, other) or await self._begun_again(other)
            if todo is None:
                await self._reread()
                return False
            await self._take(*todo, other)
        except ActivationsError as error:
            if not await self._fail(error, answering=other):
                # it went on meanwhile: what it says now counts, not what it had said before
                await self._wait_for_more()
        return True

    async def _begun_again(self, other: State) -> tuple[Step, Phase] | None:
        """What to do if the other end has gone and come back to where it stood, unseen."""
        todo = next_step(self.again, self.phase, other)
        if todo is None:
            return None
        keys = await self._folder.other_keys()
        if self._keys is None:
            self._keys = keys.ask_all()
        return None if keys.answers_as(self._keys) else todo

    async def _take(self, step: Step, to: Phase, other: State) -> None:
        match step:
            case Step.LEAVE:
                await self._leave(to)
            case Step.CONNECT:
                self._engaged = True
                self._keys = await self._folder.other_keys()
                await self._connect(self._keys)
                self.failure = ""
                await self._say(to)
                serving = asyncio.create_task(
                    self.driver.serve(), name=f"{self.side} end of {self.device} serves"
                )
                self._serving = own(serving)
                self._serving.add_done_callback(lambda _: self._look.set())
            case Step.OFFER:
                self._engaged = True
                self._keys = None
                await self._begin()
                await self._say(to)
            case Step.PUBLISH:
                self._engaged = True
                self._keys = None
                await self._begin()
                if not await self._say(to, Heard(other, self._keys)):
                    # The offer was taken back meanwhile. A back end that begins anew takes what is
                    # published now for another life's, and begins anew again: two ends that are
                    # equally fast would do so for ever. It has not heard of this yet.
                    await self._stop()
                    return
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
    async def _leave(self, to: Phase, answering: Heard | None = None) -> bool:
        """Stop, give everything back, and say so, in this end's order; whether it stands there."""

    @abstractmethod
    async def _wait_for_more(self) -> None:
        """Give everything back, and stand where the other end's next word is waited for."""

    @abstractmethod
    async def _part(self) -> None:
        """This program is done with the device: agree with the other end that it is over, as far
        as that one cares to."""

    @abstractmethod
    async def _reread(self) -> None:
        """Take the other end's keys if they changed while in use."""

    async def _fail(self, error: BaseException, *, answering: State | None = None) -> bool:
        """Close the device, with the reason where people look for it; whether that was done.

        Not where it would answer what the other end said, and that has gone on since: it may have
        died, and come back to publish anew on the offer that stands. It would take this for the
        answer to that, both would be closed, and neither would begin.
        """
        if not isinstance(error, ActivationsError) or self._suspended:
            raise error
        heard = None if answering is None else Heard(answering, self._keys)
        if heard is not None and not await self._folder.stands(heard):
            return False
        self.failure = str(error)
        with suppress(StoreError):
            await self._folder.say_why(getattr(error, "errno", None) or EIO, self.failure)
        if not await self._leave(Phase.FAILED, heard) and heard is not None:
            self.failure = ""
            return False
        self._log.error("device closed", reason=self.failure)
        self._enter(Phase.FAILED)
        return True

    # What they are made of

    async def _say(self, phase: Phase, answering: Heard | None = None) -> bool:
        """Write the state that goes with a phase; whether it stands there then."""
        says = self._says(phase)
        return says is not None and await self._folder.say(says, answering)

    def _says(self, phase: Phase) -> State | None:
        return phase.says

    def _enter(self, phase: Phase) -> None:
        if phase is not self.phase:
            self._log.debug("phase", was=self.phase.name, now=phase.name)
            self.phase = phase
            self._moved.set()

    async def _until_other(self, *states: State) -> None:
        """Wait for the other end to say one of these, for `PATIENCE` at most."""
        look = self._look
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE), self._folder.watch(self.other, look):
                look.clear()  # before the look: what comes during it asks for another
                while await self._folder.other_state() not in states:
                    await look.wait()
                    look.clear()

    async def _go(self) -> None:
        try:
            await self._despite_suspends(self._part)
        finally:
            await self._stop()
            self._enter(Phase.UNPLUGGED)

    async def _stop(self) -> None:
        """Serve no more, and have the driver give back what it holds; cancelled too."""
        if self._engaged or self._serving is not None:
            await finish(self._give_back(), name=f"{self.side} end of {self.device} stops")

    async def _give_back(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.wait([serving])
            if not serving.cancelled() and (error := serving.exception()):
                self._log.debug("served no more", reason=str(error))
        if self._engaged:
            self._engaged = False
            await self.driver.disconnect()


def _reason(serving: asyncio.Task[None]) -> BaseException:
    """Why a driver serves no more; of several reasons the first."""
    error: BaseException | None = None if serving.cancelled() else serving.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error or XenbusError("the driver has stopped")
