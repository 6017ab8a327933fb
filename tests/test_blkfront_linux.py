"""Our block front end against Linux's xen-blkback, on a real Xen."""

from __future__ import annotations

from pathlib import Path

import pytest

from activations import scenario
from xen_lab import Lab

SCENARIOS = Path(__file__).parent / "linux_blkback" / "scenarios.py"


@pytest.mark.lab
@pytest.mark.parametrize("name", scenario.names(SCENARIOS))
def test_against_xen_blkback(name: str, lab: Lab) -> None:
    results = scenario.load(f"{SCENARIOS}::{name}").run("lab")
    keys, used = results["dom0"], results["guest"]
    print(f"{name}: {used['seconds']:.1f} s")
    if "flush" in name:
        assert used["result"] == {"flush": True, "discard": True}, "what a loop device can do"
    if "long rings" in name:
        assert int(keys["ring-page-order"]) == int(keys["max-ring-page-order"]) == 4
        assert int(keys["multi-queue-num-queues"]) == 2
