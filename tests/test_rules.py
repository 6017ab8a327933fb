"""Every rule in the folder `rules`, on the simulated Xen and on a real one.

A rule is a scenario that asserts; it fails where a half of it does. Whatever holds on the
simulator and not on a real Xen is a fault of the simulator.
"""

from __future__ import annotations

import pytest
from support.drawn import drawn
from support.parameters import some_in
from support.places import RULES
from support.rules import LAB_ONLY, check, rules_in

from activations import scenario
from xen_lab import Lab

OTHER_ORDERS = [pytest.param(0, marks=pytest.mark.once), *drawn(2)]


@pytest.mark.parametrize("rule", rules_in(RULES))
def test_on_the_simulator(rule: str) -> None:
    check(rule, "sim")


@pytest.mark.parametrize("seed", OTHER_ORDERS)
@pytest.mark.parametrize("rule", rules_in(RULES))
def test_on_the_simulator_in_other_orders(rule: str, seed: int) -> None:
    scenario.load(rule).run("sim", seed=seed)


@pytest.mark.lab
@pytest.mark.parametrize("rule", some_in(5, *sorted(RULES.glob("*.py"))) + rules_in(LAB_ONLY))
def test_on_a_real_xen(rule: str, lab: Lab) -> None:
    """Every fifth of a file always; all of them in the long form."""
    check(rule, "lab")
