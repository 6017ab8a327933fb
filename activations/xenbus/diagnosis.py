"""Why a handshake does not finish: where each end stands, and which key is missing."""

from __future__ import annotations

from collections.abc import Sequence

from activations.abi.xenbus import XenbusState as State
from activations.store import Store
from activations.xenbus.device import Device, Side
from activations.xenbus.folder import read_if_there, state_in
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
TOOLSTACK_WRITES: dict[str, Sequence[str]] = {
    "vbd": ("mode", "physical-device"),
    "vif": ("handle", "script"),
}
"""What Linux's own back end does not do without: the toolstack or its hotplug script writes it."""
_SAID = {State.INITIALISED, State.CONNECTED, State.RECONFIGURING, State.RECONFIGURED}
"""States of an end whose keys have to be there."""


async def explain(store: Store, device: Device, failure: str = "") -> str:
    """Where each end of a device stands, and what is missing, in a sentence or two."""
    front = await read_keys(store, "", device.front_path)
    back = await read_keys(store, "", device.back_path)
    parts = [f"{device}: {_front_stands(device, front, back)}; {_back_stands(device, back)}"]
    parts += _missing("front", device, front)
    parts += _missing("back", device, back)
    if not device.served_as and state_of(back) not in _SAID:
        parts += _not_prepared(device, back)
    for side in ("front", "back"):
        if reason := await read_if_there(store, f"{device.error_path(side)}/error"):
            parts.append(f"the {side} end gave as its reason: {reason}")
    if failure:
        parts.append(f"closed here: {failure}")
    return "; ".join(parts)


def state_of(keys: Keys) -> State:
    """What an end's folder says of its state; `UNKNOWN` for nonsense too."""
    return state_in(keys.get("state", ""))


def _front_stands(device: Device, front: Keys, back: Keys) -> str:
    offered = state_of(back) is State.INIT_WAIT
    ignored = offered and state_of(front) is State.INITIALISING
    told = ", as if no driver there had seen the device" if ignored else ""
    return _stands("front", device, front) + told


def _back_stands(device: Device, back: Keys) -> str:
    ignored = state_of(back) is State.INITIALISING
    return _stands("back", device, back) + (", as if no program served it" if ignored else "")


def _stands(side: Side, device: Device, keys: Keys) -> str:
    name = f"the {side} end (domain {device.domid(side)})"
    if not keys:
        return f"{name} has no folder {device.path(side)}"
    state = state_of(keys)
    if state is State.UNKNOWN:
        return f"{name} has no state that can be read"
    return f"{name} stands in {_say(state)}"


def _say(state: State) -> str:
    """`INIT_WAIT` as Xen's documents spell it: InitWait."""
    return "".join(word.capitalize() for word in state.name.split("_"))


def _missing(side: Side, device: Device, keys: Keys) -> list[str]:
    if state_of(keys) not in _SAID:
        return []
    absent = [
        " or ".join(names)
        for names in NEEDED.get((device.kind, side), ())
        if not any(name in keys for name in names)
    ]
    return [f"the {side} end's keys are missing: {', '.join(absent)}"] if absent else []


def _not_prepared(device: Device, back: Keys) -> list[str]:
    """What keeps Linux's own back end from going on, and neither end has to answer for."""
    parts = []
    absent = [name for name in TOOLSTACK_WRITES.get(device.kind, ()) if name not in back]
    if absent:
        parts.append(f"Linux's own back end needs {' and '.join(absent)}, of the toolstack")
    status = back.get("hotplug-status", "")
    if status == "error":
        why = back.get("hotplug-error", "it does not say why")
        parts.append(f"the toolstack's hotplug script failed: {why}")
    elif device.kind == "vif" and status != "connected" and state_of(back) is State.INIT_WAIT:
        parts.append(
            "Linux's own back end waits for hotplug-status = connected, of the toolstack's hotplug "
            "script"
        )
    return parts
