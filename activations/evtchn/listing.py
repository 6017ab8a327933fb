"""A domain's ports, as Xen has them, and what each is for.

Xen knows what a port is bound to. What it is bound for is written in xenstore, where the two ends
of every device, the console and xenstore itself tell each other their ports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from activations.abi.event_channel import Status, Virq
from activations.abi.xenstore_paths import HOMES, home
from activations.store import Store, StoreError

EVENT_CHANNEL = re.compile("event-channel(-tx|-rx)?")
SERVED_BY = {
    "vbd": "xen-blkback",
    "vif": "xen-netback",
    "qdisk": "QEMU",
    "console": "xenconsoled",
}
"""Who serves a device whose back end's folder has this name, where that is not a program of
ours."""
OURS = "py"
"""How the folders of `activations attach` begin."""


@dataclass(frozen=True, slots=True)
class PortState:
    """One port of a domain."""

    domid: int
    port: int
    state: Status
    vcpu: int
    """Which of the domain's vCPUs is told."""
    remote_domid: int | None = None
    """UNBOUND: the domain that may bind; INTERDOMAIN: the one that has."""
    remote_port: int | None = None
    number: int | None = None
    """VIRQ, PIRQ: which one."""
    pending: bool | None = None
    """None where Xen was not asked."""
    masked: bool | None = None
    holder: str = ""
    """What it is for, and who holds it, as far as anything here says."""

    def as_data(self) -> dict[str, Any]:
        """For JSON: the state by name."""
        return {**asdict(self), "state": self.state.name.lower()}

    @property
    def peer(self) -> str:
        """The other end in words, without the other domain's name."""
        match self.state:
            case Status.UNBOUND:
                return f"waits for domain {self.remote_domid}"
            case Status.INTERDOMAIN:
                return f"domain {self.remote_domid}, port {self.remote_port}"
            case Status.VIRQ:
                return f"VIRQ {virq_name(self.number or 0)}"
            case Status.PIRQ:
                return f"physical interrupt {self.number}"
            case _:
                return ""


def virq_name(number: int) -> str:
    """`con_ring`; the number where it has no name."""
    try:
        return Virq(number).name.lower()
    except ValueError:
        return str(number)


async def named(store: Store, ports: Iterable[PortState]) -> list[PortState]:
    """The same ports, with what xenstore says each is for."""
    found = await uses(store)
    return [replace(each, holder=_holder(each, found)) for each in ports]


def _holder(port: PortState, found: Mapping[tuple[int, int], str]) -> str:
    if port.holder or port.state is not Status.INTERDOMAIN:
        return port.holder
    own = found.get((port.domid, port.port))
    if own is not None:
        return own
    assert port.remote_domid is not None
    assert port.remote_port is not None
    return found.get((port.remote_domid, port.remote_port), "")


async def uses(store: Store) -> dict[tuple[int, int], str]:
    """What is said in xenstore of each guest's ports, by domid and port: `vif 0, xen-netback`."""
    found: dict[tuple[int, int], str] = {}
    for name in await _below(store, HOMES):
        if not name.isdecimal():
            continue
        domid = int(name)
        at = home(domid)
        for key, what in (("store/port", "xenstore"), ("console/port", "console")):
            if (port := await _number(store, f"{at}/{key}")) is not None:
                found[domid, port] = what
        for kind in await _below(store, f"{at}/device"):
            for device in await _below(store, f"{at}/device/{kind}"):
                await _of_device(store, f"{at}/device/{kind}/{device}", domid, found)
    return found


async def _of_device(
    store: Store, folder: str, domid: int, found: dict[tuple[int, int], str]
) -> None:
    kind, device = folder.split("/")[-2:]
    backend = ""
    with suppress(StoreError):
        backend = (await store.read(f"{folder}/backend")).removeprefix(f"{HOMES}/")
    what = f"{kind} {device}" + (f", {_server(backend)}" if backend else "")
    for name in await _below(store, folder):
        if EVENT_CHANNEL.fullmatch(name):
            if (port := await _number(store, f"{folder}/{name}")) is not None:
                found[domid, port] = what
        elif name.startswith("queue-"):
            for key in await _below(store, f"{folder}/{name}"):
                port = await _number(store, f"{folder}/{name}/{key}")
                if EVENT_CHANNEL.fullmatch(key) and port is not None:
                    found[domid, port] = f"{what} ({name})"


def _server(backend: str) -> str:
    """Who serves a device, by its back end's folder below the homes: `0/backend/vbd/3/51712`."""
    parts = backend.split("/")
    kind = parts[2] if len(parts) > 2 else ""
    if kind.startswith(OURS):
        return "activations attach"
    return SERVED_BY.get(kind, f"served by domain {parts[0]}")


async def _below(store: Store, path: str) -> list[str]:
    with suppress(StoreError):  # there is none, it went away, or this domain may not look
        return await store.list(path)
    return []


async def _number(store: Store, path: str) -> int | None:
    with suppress(StoreError, ValueError):
        return int(await store.read(path))
    return None
