"""The two ends: in what they differ.

The front end grants pages, and the back end maps them, so they leave in opposite orders: a front
end says first that it leaves, and takes its pages back when the other has let go; a back end lets
go, then says so. The front end's folder is its own; in the back end's the toolstack has a say.
"""

from __future__ import annotations

from typing import ClassVar

from activations.abi.xenbus import XenbusState as State
from activations.domain import Domain
from activations.xenbus.device import Device, Side, front_device
from activations.xenbus.driver import BackDriver, FrontDriver, Written
from activations.xenbus.folder import Heard
from activations.xenbus.handshake import Handshake
from activations.xenbus.keys import Keys
from activations.xenbus.states import BACK, BACK_AGAIN, FRONT, FRONT_AGAIN, Phase, Table

_ANEW = (State.INITIALISING, State.INIT_WAIT)


class FrontEnd(Handshake):
    """The front end: `driver` is told when there is a back end, and when it goes."""

    side: ClassVar[Side] = "front"
    other: ClassVar[Side] = "back"
    table: ClassVar[Table] = FRONT
    again: ClassVar[Table] = FRONT_AGAIN

    def __init__(self, xen: Domain, device: Device, driver: FrontDriver) -> None:
        super().__init__(xen, device, driver)
        self._front = driver

    async def _find(self) -> None:
        """A domain that was restored has another domid, and its devices once the toolstack has
        made them there."""
        device, here = self.device, self._xen.domid
        if device.front != here:
            self._moved_to(await front_device(self._xen, device.kind, device.devid))

    async def _begin(self) -> None:
        self._keys = await self._folder.other_keys()
        published = await self._front.publish(self._keys)
        await self._folder.write(published, instead_of=self._front.writes)

    async def _connect(self, keys: Keys) -> None:
        await self._front.connect(keys)

    async def _reread(self) -> None:
        if self.phase in (Phase.CONNECTED, Phase.RECONFIGURING):
            keys = await self._folder.other_keys()
            if self._keys is None or keys.lasting != self._keys.lasting:
                self._keys = keys
                await self._front.reconfigure(keys)

    async def _leave(self, to: Phase, answering: Heard | None = None) -> bool:
        stands = await self._say(to, answering)
        await self._stop()
        return stands

    async def _wait_for_more(self) -> None:
        await self._leave(Phase.WAITING)
        self._enter(Phase.WAITING)

    async def _part(self) -> None:
        """Leave no key behind that the next driver, maybe another one, would find."""
        in_use = self.phase in (Phase.PUBLISHED, Phase.CONNECTED, Phase.RECONFIGURING)
        if in_use and await self._say(Phase.CLOSING):
            await self._until_other(State.CLOSING, State.CLOSED, State.UNKNOWN, *_ANEW)
        await self._folder.write({}, instead_of=self._front.writes)
        await self._say(Phase.CLOSED)

    def _says(self, phase: Phase) -> State | None:
        return self._front.published if phase is Phase.PUBLISHED else phase.says


class BackEnd(Handshake):
    """The back end: `driver` is told when there is a front end, and when it goes."""

    side: ClassVar[Side] = "back"
    other: ClassVar[Side] = "front"
    table: ClassVar[Table] = BACK
    again: ClassVar[Table] = BACK_AGAIN

    def __init__(self, xen: Domain, device: Device, driver: BackDriver) -> None:
        super().__init__(xen, device, driver)
        self._back = driver

    async def update(self, keys: Written) -> None:
        """Change this end's keys while in use, as when a disk grows. A front end that cares
        looks again."""
        await self._folder.write(keys)
        await self._folder.say_again()

    async def _find(self) -> None:
        """Its folder has gone with its domid, if that is another one: then it is unplugged."""

    async def _begin(self) -> None:
        await self._folder.write(await self._back.offer(), instead_of=self._back.writes)

    async def _connect(self, keys: Keys) -> None:
        await self._folder.write(await self._back.connect(keys))

    async def _leave(self, to: Phase, answering: Heard | None = None) -> bool:
        await self._stop()
        return await self._say(to, answering)

    async def _reread(self) -> None:
        """What a front end has said it does not change while in use: see `BACK_AGAIN`."""

    async def _wait_for_more(self) -> None:
        """The offer that stands is made anew, with no other word before: a front end that has taken
        it would take that back, and the two would never meet."""
        await self._stop()
        self._enter(Phase.FRESH)

    async def _part(self) -> None:
        in_use = self.phase in (Phase.CONNECTED, Phase.UNPLUGGING)
        if in_use and await self._say(Phase.CLOSING):
            await self._until_other(State.CLOSED, State.UNKNOWN, *_ANEW)
        await self._leave(Phase.CLOSED)

    async def _plugged(self) -> bool:
        """Notes it too if the toolstack has written that it wants the device gone. Where this end
        says Closing itself, or an earlier life of it did, the key `online` tells."""
        said = self._folder.said
        if not await super()._plugged():
            return False
        if self._folder.said is State.CLOSING:
            told = said not in (None, State.CLOSING)
            if told or not await self._folder.online():
                self._enter(Phase.UNPLUGGING)
        return True
