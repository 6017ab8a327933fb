"""A device: its two ends, and where each has its folder in xenstore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from activations.abi.xenstore_paths import back_ends, front_ends, home
from activations.domain import Domain
from activations.xenbus.errors import XenbusError

Side = Literal["front", "back"]


@dataclass(frozen=True, slots=True)
class Device:
    """A pair of ends.

    `kind` names the front end's folder (`vbd`, `vif`, `console`), `devid` the device in it;
    `front` and `back` are the two ends' domids. `served_as` names the back end's folder where that
    is another than the kind's: a program that serves a disk in a domain whose kernel has a driver
    for `vbd` takes a name which that driver does not look for, as QEMU takes `qdisk`. Front ends
    do not mind: they go where their key `backend` points.
    """

    kind: str
    devid: int
    front: int
    back: int
    served_as: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.devid} of domain {self.front}"

    @property
    def front_path(self) -> str:
        """The front end's folder in xenstore."""
        return f"{front_ends(self.front, self.kind)}/{self.devid}"

    @property
    def back_path(self) -> str:
        """The back end's folder in xenstore."""
        folder = back_ends(self.back, self.served_as or self.kind)
        return f"{folder}/{self.front}/{self.devid}"

    def path(self, side: Side) -> str:
        """This side's folder in xenstore."""
        return self.front_path if side == "front" else self.back_path

    def domid(self, side: Side) -> int:
        """The domain that this side is in."""
        return self.front if side == "front" else self.back

    def error_path(self, side: Side) -> str:
        """Where an end says why it failed, the place that Linux's ends use too."""
        at = home(self.domid(side))
        return f"{at}/error{self.path(side).removeprefix(at)}"


async def front_devices(xen: Domain, kind: str) -> list[Device]:
    """The devices of this kind whose front ends are this domain's, by devid.

    Raises `XenbusError` if one's key `backend` points to nowhere sensible.
    """
    folder = front_ends(xen.domid, kind)
    if not await xen.store.exists(folder):
        return []
    devids = sorted(int(name) for name in await xen.store.list(folder) if name.isdecimal())
    return [await front_device(xen, kind, devid) for devid in devids]


async def front_device(xen: Domain, kind: str, devid: int) -> Device:
    """One of this domain's devices, waited for. Bound the wait with `asyncio.timeout`."""
    folder = f"{front_ends(xen.domid, kind)}/{devid}"
    return from_backend_key(kind, devid, xen.domid, await xen.store.wait_for(f"{folder}/backend"))


async def device_of(xen: Domain, domid: int, kind: str, devid: int) -> Device | None:
    """A device of another domain's, as dom0 sees it; None if there is none. Raises
    `XenbusError`."""
    key = f"{front_ends(domid, kind)}/{devid}/backend"
    if not await xen.store.exists(key):
        return None
    return from_backend_key(kind, devid, domid, await xen.store.read(key))


def from_backend_key(kind: str, devid: int, front: int, path: str) -> Device:
    """The device whose front end has this `backend` key. Raises `XenbusError`."""
    match path.split("/"):
        case ["", "local", "domain", back, "backend", served_as, domid, number] if (
            back.isdecimal() and (domid, number) == (str(front), str(devid))
        ):
            return Device(kind, devid, front, int(back), "" if served_as == kind else served_as)
    raise XenbusError(f"{kind} {devid} of domain {front}: its key backend is {path!r}")
