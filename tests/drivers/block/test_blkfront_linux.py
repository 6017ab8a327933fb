"""Our block front end against Linux's xen-blkback, on a real Xen."""

from __future__ import annotations

import pytest
from support.parameters import scenarios_in
from support.places import PEERS

from activations import scenario
from xen_lab import Lab

SCENARIOS = PEERS / "linux_blkback" / "scenarios.py"


@pytest.mark.lab
@pytest.mark.parametrize("target", scenarios_in(SCENARIOS))
def test_against_xen_blkback(target: str, lab: Lab) -> None:
    results = scenario.load(target).run("lab")
    keys, used = results["dom0"], results["guest"]
    print(f"{target}: {used['seconds']:.1f} s")
    if "flush" in target:
        assert used["result"] == {"flush": True, "discard": True}, "what a loop device can do"
    if "long rings" in target:
        assert int(keys["ring-page-order"]) == int(keys["max-ring-page-order"]) == 4
        assert int(keys["multi-queue-num-queues"]) == 2
    if "32-bit" in target:
        assert keys.get("protocol") == (None if "does not say" in target else "x86_32-abi")
