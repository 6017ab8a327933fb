"""Network devices against Linux's drivers, on a real Xen: either of our ends, Linux's other."""

from __future__ import annotations

import pytest
from support.parameters import scenarios_in
from support.places import PEERS

from activations import scenario
from xen_lab import Lab

SCENARIOS = PEERS / "linux_net" / "scenarios.py"


@pytest.mark.lab
@pytest.mark.parametrize("target", scenarios_in(SCENARIOS))
def test_against_linux(target: str, lab: Lab) -> None:
    scenario.load(target).run("lab")
