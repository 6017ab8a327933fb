"""Plugging a device in, and pulling it out, as a toolstack does: from dom0, while both run.

Both folders are made in one step, with the permissions that each end needs; the ends do the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from activations.abi.xenbus import XenbusState as State
from activations.domain import Domain
from activations.store import Access, Nodes, Permission, Store, StoreError
from activations.xenbus.device import Device, Side
from activations.xenbus.diagnosis import explain
from activations.xenbus.driver import Written
from activations.xenbus.errors import DeviceExists, HandshakeTimeout
from activations.xenbus.folder import read_if_there, read_state
from activations.xenbus.states import BACK, Phase, next_step

_NONE: Written = {}


async def plug(
    xen: Domain, device: Device, *, front: Written = _NONE, back: Written = _NONE
) -> None:
    """Give domain `device.front` the device; `front` and `back` are what else the folders hold.

    Raises `DeviceExists` if there is such a device already, and `StoreError` (EACCES) if this
    domain may not make one.
    """
    folders: dict[Side, dict[str, str | int]] = {
        "back": {
            "frontend": device.front_path,
            "frontend-id": device.front,
            "online": 1,
            "state": int(State.INITIALISING),
            **back,
        },
        "front": {
            "backend": device.back_path,
            "backend-id": device.back,
            "state": int(State.INITIALISING),
            **front,
        },
    }

    async def change(nodes: Nodes) -> None:
        if await nodes.exists(device.front_path):
            raise DeviceExists(f"{device} exists: unplug it first, or take another devid")
        for side, keys in folders.items():
            await _make(nodes, device, side, keys)
            if await nodes.exists(reason := device.error_path(side)):
                await nodes.rm(reason)  # why a former device of this number had failed

    await xen.store.transact(change)


async def unplug(
    xen: Domain, device: Device, *, within: float | None = 10.0, force: bool = False
) -> None:
    """Ask both ends to part from the device, then remove it. No error if there is none.

    Raises `HandshakeTimeout` if the front end does not let go `within` these seconds, unless the
    device is taken by `force`. A back end that has not answered by then, and whose front end has
    let go, is taken for dead.
    """
    store = xen.store

    async def ask(nodes: Nodes) -> None:
        if await nodes.exists(device.back_path):
            await nodes.write(f"{device.back_path}/online", 0)
            if await read_state(nodes, device.back_path) is not State.CLOSED:
                await nodes.write(f"{device.back_path}/state", int(State.CLOSING))

    await _change(store, device.back_path, ask)
    try:
        async with asyncio.timeout(within):
            await _closed(store, device)
    except TimeoutError:
        if not force and not await _let_go(store, device):
            raise HandshakeTimeout(
                f"{await explain(store, device)}; to remove it all the same, use force"
            ) from None

    await _remove(store, device, "front")
    await _remove(store, device, "back")
    folder = device.back_path.rpartition("/")[0]
    await _change(store, folder, partial(_remove_if_empty, folder))


async def _remove(store: Store, device: Device, side: Side) -> None:
    """Remove an end's folder, whether or not it is there. A front end's that points to another back
    end is another device's by now."""
    path = device.path(side)

    async def change(nodes: Nodes) -> None:
        pointed_at = await read_if_there(nodes, f"{device.front_path}/backend")
        if side == "back" or pointed_at in ("", device.back_path):
            await nodes.rm(path)

    await _change(store, path, change)


async def _change(store: Store, path: str, change: Callable[[Nodes], Awaitable[None]]) -> None:
    """Change what is in this folder. Its domain may end in this very moment, and the folder go with
    it: then xenstored refuses (ENOMEM), and there is nothing to be changed."""
    try:
        await store.transact(change)
    except StoreError:
        if await store.exists(path):
            raise


async def _remove_if_empty(folder: str, nodes: Nodes) -> None:
    """What held a guest's devices, once the last of them is gone."""
    if await nodes.exists(folder) and not await nodes.list(folder):
        await nodes.rm(folder)


async def _make(nodes: Nodes, device: Device, side: Side, keys: Mapping[str, str | int]) -> None:
    """A folder that its end owns and the other may read."""
    other: Side = "back" if side == "front" else "front"
    permissions = (
        Permission(device.domid(side), Access.NONE),
        Permission(device.domid(other), Access.READ),
    )
    path = device.path(side)
    await nodes.mkdir(path)
    await nodes.set_perms(path, *permissions)
    for name, value in keys.items():
        await nodes.write(f"{path}/{name}", value)
        await nodes.set_perms(f"{path}/{name}", *permissions)


async def _closed(store: Store, device: Device) -> None:
    """Wait until the back end says Closed, or is gone."""
    async with store.watch(f"{device.back_path}/state") as changes:
        async for _ in changes:
            if await read_state(store, device.back_path) in (State.CLOSED, State.UNKNOWN):
                return


async def _let_go(store: Store, device: Device) -> bool:
    """Whether a back end that lives would take the front end's word for it."""
    said = await read_state(store, device.front_path)
    return next_step(BACK, Phase.UNPLUGGING, said) is not None
