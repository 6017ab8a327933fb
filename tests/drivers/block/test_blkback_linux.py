"""The block back end before Linux's xen-blkfront, in a guest of a real Xen."""

from __future__ import annotations

import pytest
from support.parameters import scenarios_in
from support.places import PEERS

from activations import scenario
from xen_lab import Lab

SCENARIOS = PEERS / "linux_block" / "scenarios.py"


@pytest.mark.lab
@pytest.mark.parametrize("target", scenarios_in(SCENARIOS))
def test_with_linux(target: str, lab: Lab) -> None:
    scenario.load(target).run("lab")
