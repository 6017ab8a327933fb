"""A handshake that does not finish: what is said of two ends, by what is in xenstore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activations import Domain
from activations.xenbus import Device, Written, XenbusState, plug
from activations.xenbus.diagnosis import explain
from xen_sim import Machine

VBD = Device("vbd", 51712, 1, 0)
VIF = Device("vif", 0, 1, 0)
OURS = Device("vbd", 51712, 1, 0, "pyvbd")


def run(dom0: Callable[[Domain], Awaitable[None]]) -> None:
    """In dom0, beside a guest that does nothing."""

    async def guest(xen: Domain) -> None:
        await asyncio.sleep(1)

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def said_of(device: Device, *, front: Written, back: Written, reason: str = "") -> str:
    """The explanation where the folders hold this."""
    told: list[str] = []

    async def dom0(xen: Domain) -> None:
        await plug(xen, device, front=front, back=back)
        if reason:
            await xen.store.write(f"{device.error_path('back')}/error", reason)
        told.append(await explain(xen.store, device))

    run(dom0)
    return told[0]


def at(state: XenbusState, **keys: str | int) -> Written:
    return {"state": int(state), **{name.replace("_", "-"): value for name, value in keys.items()}}


def test_a_back_end_that_nobody_serves() -> None:
    assert said_of(OURS, front={}, back={}) == (
        "vbd 51712 of domain 1: the front end (domain 1) stands in Initialising; "
        "the back end (domain 0) stands in Initialising, as if no program served it"
    )


def test_a_front_end_that_nobody_uses() -> None:
    assert said_of(OURS, front={}, back=at(XenbusState.INIT_WAIT)) == (
        "vbd 51712 of domain 1: the front end (domain 1) stands in Initialising, as if no driver "
        "there had seen the device; the back end (domain 0) stands in InitWait"
    )


def test_a_folder_that_is_gone() -> None:
    async def dom0(xen: Domain) -> None:
        said = await explain(xen.store, VIF)
        assert "the front end (domain 1) has no folder /local/domain/1/device/vif/0" in said
        assert "the back end (domain 0) has no folder /local/domain/0/backend/vif/1/0" in said

    run(dom0)


def test_a_state_that_is_nonsense() -> None:
    said = said_of(OURS, front={"state": "four"}, back={})
    assert "the front end (domain 1) has no state that can be read" in said


def test_the_keys_are_named_that_an_end_should_have_said() -> None:
    front = at(XenbusState.INITIALISED, ring_ref=8)
    assert said_of(OURS, front=front, back=at(XenbusState.INIT_WAIT)).endswith(
        "; the front end's keys are missing: event-channel or queue-0/event-channel"
    )
    back = at(XenbusState.CONNECTED, sectors=8)
    assert said_of(OURS, front={**front, "event-channel": 3}, back=back).endswith(
        "; the back end's keys are missing: sector-size"
    )


def test_no_key_is_missing_of_an_end_whose_turn_has_not_come_or_is_over() -> None:
    for state in (XenbusState.INITIALISING, XenbusState.CLOSING, XenbusState.CLOSED):
        assert "missing" not in said_of(OURS, front=at(state), back=at(state))


@pytest.mark.parametrize(
    ("device", "back", "said"),
    [
        (VBD, {"mode": "w"}, "Linux's own back end needs physical-device, of the toolstack"),
        (VBD, {}, "Linux's own back end needs mode and physical-device, of the toolstack"),
        (
            VIF,
            {"handle": 0, "hotplug-status": "connected"},
            "Linux's own back end needs script, of the toolstack",
        ),
        (
            VIF,
            {"handle": 0, "script": "vif-bridge"},
            "Linux's own back end waits for hotplug-status = connected, of the toolstack's "
            "hotplug script",
        ),
        (
            VIF,
            {
                "handle": 0,
                "script": "vif-bridge",
                "hotplug-status": "error",
                "hotplug-error": "no bridge xenbr0",
            },
            "the toolstack's hotplug script failed: no bridge xenbr0",
        ),
    ],
)
def test_what_the_toolstack_owes_to_linuxs_own_back_end(
    device: Device, back: Written, said: str
) -> None:
    front = at(
        XenbusState.CONNECTED,
        **{"ring-ref": 8, "tx-ring-ref": 8, "rx-ring-ref": 9, "event-channel": 3},
        **{"request-rx-copy": 1},
    )
    waits = {**back, **at(XenbusState.INIT_WAIT)}
    assert said_of(device, front=front, back=waits).endswith(f"stands in InitWait; {said}")
    ours = Device(device.kind, device.devid, 1, 0, f"py{device.kind}")
    assert said_of(ours, front=front, back=waits).endswith("stands in InitWait")


def test_the_reason_that_an_end_gave() -> None:
    closed = at(XenbusState.CLOSED)
    assert said_of(OURS, front=closed, back=closed, reason="22 no such ring").endswith(
        "; the back end gave as its reason: 22 no such ring"
    )


def test_a_device_that_is_plugged_in_anew_has_not_failed_yet() -> None:
    async def dom0(xen: Domain) -> None:
        await xen.store.write(f"{OURS.error_path('front')}/error", "2 of a former life")
        await xen.store.write(f"{OURS.error_path('back')}/error", "2 of a former life")
        await plug(xen, OURS)
        assert "former" not in await explain(xen.store, OURS)

    run(dom0)
