"""What one end of a device reads and writes in xenstore, and that it writes into nothing else.

Both folders are there, and point at each other, for as long as the device is this one. A toolstack
may remove them at any moment, and make the device anew, with another back end or in its old place.
So whatever an end writes goes in a transaction that looks first: into a folder that is gone it
would make a new one, into a new device's it would write what another's end has to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from errno import ENOENT
from fnmatch import fnmatchcase
from typing import NamedTuple

from activations.abi.xenbus import XenbusState as State
from activations.store import Nodes, Store, StoreError, Watch
from activations.store.errors import UNSEEN
from activations.xenbus.device import Device, Side
from activations.xenbus.driver import Written
from activations.xenbus.keys import Keys, read_keys

_PARTED = (State.CLOSING, State.CLOSED)
_LONGEST_REASON = 1024


class Heard(NamedTuple):
    """What the other end said, and the keys that went with it where they were read."""

    state: State
    keys: Keys | None = None


class Folder:
    """One end's, and its sight of the other's. Raises `StoreError` as `Store` does.

    `said` is what stands there as this end's state by its own word, or as it was found; None where
    it does not know.
    """

    def __init__(self, store: Store, device: Device, side: Side) -> None:
        self.said: State | None = None
        self._store = store
        self._device = device
        self._side = side
        self._other: Side = "back" if side == "front" else "front"
        self._path = device.path(side)

    # What is there

    async def state(self, nodes: Nodes | None = None) -> State:
        """What stands as this end's state, though another may have written it; `UNKNOWN` once the
        device is gone."""
        nodes = self._store if nodes is None else nodes
        own = await read_state(nodes, self._path)
        pointed_at = await read_if_there(nodes, f"{self._device.front_path}/backend")
        return own if pointed_at == self._device.back_path else State.UNKNOWN

    async def _own(self, nodes: Nodes) -> State:
        """As `state`, for who writes: a guest that has gone has taken its folder with it, and what
        it left of a back end's is that one's to close."""
        if self._side == "back" and not await nodes.exists(self._device.front_path):
            return await read_state(nodes, self._path)
        return await self.state(nodes)

    async def online(self) -> bool:
        """Whether the toolstack wants the device kept when its ends have parted."""
        return await read_if_there(self._store, f"{self._path}/online") == "1"

    async def other_state(self) -> State:
        """What the other end says; `UNKNOWN` for nonsense, and for what may not be read."""
        return await read_state(self._store, self._device.path(self._other))

    async def other_keys(self, nodes: Nodes | None = None) -> Keys:
        """What the other end has written."""
        device, other = self._device, self._other
        owner = f"the {other} end of {device} (domain {device.domid(other)})"
        nodes = self._store if nodes is None else nodes
        return await read_keys(nodes, owner, device.path(other))

    async def stands(self, heard: Heard, nodes: Nodes | None = None) -> bool:
        """Whether the other end says so still, in the same life. One that has begun anew may say
        the same again, with other keys."""
        there = self._store if nodes is None else nodes
        if await read_state(there, self._device.path(self._other)) is not heard.state:
            return False
        return heard.keys is None or (await self.other_keys(there)).answers_as(heard.keys)

    def watch(self, side: Side, arrived: asyncio.Event) -> Watch:
        """Changes of an end's state, among them that its folder comes or goes."""
        return self._store.watch(f"{self._device.path(side)}/state", arrived=arrived)

    # What this end says

    async def write(self, keys: Written, *, instead_of: Sequence[str] = ()) -> None:
        """Write keys, and in the same step remove what an earlier life left of those whose names,
        or whose folders' names, match these patterns."""

        async def change(nodes: Nodes, own: State) -> bool:
            for name in await nodes.list(self._path) if instead_of else ():
                if any(fnmatchcase(name, pattern) for pattern in instead_of):
                    await nodes.rm(f"{self._path}/{name}")
            for name, value in keys.items():
                await nodes.write(f"{self._path}/{name}", value)
            return True

        await self._change(change)

    async def say(self, state: State, answering: Heard | None = None) -> bool:
        """Write this end's state; whether it stands. It does not where somebody else's word stands
        there that this end has not seen yet, but for a Closing which says the same; nor where the
        other end has gone on from what this would answer."""
        said, self.said = self.said, None  # who is cancelled meanwhile does not know what stands

        async def change(nodes: Nodes, own: State) -> bool:
            if answering is not None and not await self.stands(answering, nodes):
                return False
            if said in (None, own) or (own is State.CLOSING and state in _PARTED):
                await nodes.write(f"{self._path}/state", int(state))
                return True
            return False

        stands = await self._change(change)
        self.said = state if stands else said
        return stands

    async def say_again(self) -> None:
        """Write the state as it stands, for the other end to look."""

        async def change(nodes: Nodes, own: State) -> bool:
            await nodes.write(f"{self._path}/state", int(own))
            return True

        await self._change(change)

    async def say_why(self, number: int, reason: str) -> None:
        """Write why the device is closed to where people look for it."""
        node = f"{self._device.error_path(self._side)}/error"

        async def change(nodes: Nodes, own: State) -> bool:
            await nodes.write(node, f"{number} {reason}"[:_LONGEST_REASON])
            return True

        await self._change(change)

    async def _change(self, change: Callable[[Nodes, State], Awaitable[bool]]) -> bool:
        """Do so in a transaction, given what stands as this end's state; whether it was done. Not
        if the device is gone, or goes meanwhile."""

        async def unless_gone(nodes: Nodes) -> bool:
            own = await self._own(nodes)
            return own is not State.UNKNOWN and await change(nodes, own)

        try:
            return await self._store.transact(unless_gone)
        except StoreError as error:  # a transaction too sees that a node which it had not read goes
            if error.errno != ENOENT or await self._own(self._store) is not State.UNKNOWN:
                raise
            return False


async def read_state(nodes: Nodes, path: str) -> State:
    """The state that stands in a folder; `UNKNOWN` if there is none to be read, or nonsense."""
    return state_in(await read_if_there(nodes, f"{path}/state"))


def state_in(value: str) -> State:
    """The state that a node's value means; `UNKNOWN` for nonsense."""
    try:
        return State(int(value))
    except ValueError:
        return State.UNKNOWN


async def read_if_there(nodes: Nodes, path: str) -> str:
    """A node's value, empty if there is none that may be read."""
    try:
        return await nodes.read(path)
    except StoreError as error:
        if error.errno not in UNSEEN:
            raise
        return ""
