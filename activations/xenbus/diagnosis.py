"""Why a handshake does not finish: where each end stands, and which key is missing."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EACCES, ENOENT

from activations.abi.xenbus import XenbusState as State
from activations.store import Store, StoreError
from activations.xenbus.device import Device, Side
from activations.xenbus.keys import Keys, read_keys

NEEDED: dict[tuple[str, Side], Sequence[Sequence[str]]] = {
    ("vbd", "front"): [
        ("ring-ref", "ring-ref0", "queue-0/ring-ref", "queue-0/ring-ref0"),
        ("event-channel", "queue-0/event-channel"),
    ],
    ("vbd", "back"): [("sectors",), ("sector-size",)],
    ("vif", "front"): [
        ("tx-ring-ref", "queue-0/tx-ring-ref"),
        ("rx-ring-ref", "queue-0/rx-ring-ref"),
        (
            "event-channel",
            "event-channel-tx",
            "queue-0/event-channel",
            "queue-0/event-channel-tx",
        ),
        ("request-rx-copy",),
    ],
    ("vif", "back"): [("feature-rx-copy",)],
    ("console", "front"): [("ring-ref",), ("port",)],
}
"""What an end must have said by the time it is connected; of alternatives, one."""
LINUX_NEEDS: dict[str, Sequence[str]] = {
    "vbd": ("physical-device", "mode"),
    "vif": ("handle", "hotplug-status"),
}
"""What Linux's own back end waits for, and the toolstack or its hotplug script writes."""


async def explain(store: Store, device: Device, failure: str = "") -> str:
    """Where each end of a device stands, and what is missing, in a sentence or two."""
    front = await read_keys(store, "", device.front_path)
    back = await read_keys(store, "", device.back_path)
    parts = [f"{device}: {_stands('front', device, front)}; {_stands('back', device, back)}"]
    parts += _missing("front", device, front)
    if state_of(front) >= State.INITIALISED:
        parts += _missing("back", device, back)
        if not device.served_as and state_of(back) is State.INIT_WAIT:
            parts += _unwritten(device, back)
    for side in ("front", "back"):
        if reason := await _reason(store, device, side):
            parts.append(f"the {side} end gave as its reason: {reason}")
    if failure:
        parts.append(f"closed here: {failure}")
    return "; ".join(parts)


def state_of(keys: Keys) -> State:
    """What an end's folder says of its state; `UNKNOWN` for nonsense too."""
    try:
        return State(int(keys.get("state", "0")))
    except ValueError:
        return State.UNKNOWN


def _stands(side: Side, device: Device, keys: Keys) -> str:
    name = f"the {side} end (domain {device.domid(side)})"
    if not keys:
        return f"{name} has no folder {device.path(side)}"
    state = state_of(keys)
    told = "has no state that can be read" if state is State.UNKNOWN else f"stands in {_say(state)}"
    if side == "back" and state is State.INITIALISING:
        told += ", as if nobody served it"
    return f"{name} {told}"


def _say(state: State) -> str:
    """`INIT_WAIT` as Xen's documents spell it: InitWait."""
    return "".join(word.capitalize() for word in state.name.split("_"))


def _missing(side: Side, device: Device, keys: Keys) -> list[str]:
    absent = [
        " or ".join(names)
        for names in NEEDED.get((device.kind, side), ())
        if not any(name in keys for name in names)
    ]
    return [f"the {side} end's keys are missing: {', '.join(absent)}"] if absent else []


def _unwritten(device: Device, keys: Keys) -> list[str]:
    absent = [name for name in LINUX_NEEDS.get(device.kind, ()) if name not in keys]
    return [f"Linux's own back end would wait for {', '.join(absent)}"] if absent else []


async def _reason(store: Store, device: Device, side: Side) -> str:
    """What an end wrote into its error node, the place that Linux uses too."""
    home = f"/local/domain/{device.domid(side)}"
    path = device.path(side).removeprefix(home)
    try:
        return await store.read(f"{home}/error{path}/error")
    except StoreError as error:
        if error.errno not in (ENOENT, EACCES):
            raise
        return ""
