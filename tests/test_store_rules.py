"""The rules of xenstore, on the simulator: through ring pages, on the virtual clock."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from activations import Scenario

FILE = Path(__file__).with_name("rules") / "store.py"
RULES = {s.name: s for s in runpy.run_path(str(FILE)).values() if isinstance(s, Scenario)}


@pytest.mark.parametrize("name", RULES)
def test_on_the_simulator(name: str) -> None:
    RULES[name].run("sim")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_on_the_simulator_in_another_order(name: str, seed: int) -> None:
    RULES[name].run("sim", seed=seed)
