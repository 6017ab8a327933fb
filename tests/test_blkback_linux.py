"""The block back end before Linux's xen-blkfront, in a guest of a real Xen."""

from __future__ import annotations

from pathlib import Path

import pytest
from parameters import scenarios_in

from activations import scenario
from xen_lab import Lab

SCENARIOS = Path(__file__).parent / "linux_block" / "scenarios.py"


@pytest.mark.lab
@pytest.mark.parametrize("target", scenarios_in(SCENARIOS))
def test_with_linux(target: str, lab: Lab) -> None:
    scenario.load(target).run("lab")
