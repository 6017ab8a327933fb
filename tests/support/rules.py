"""Scenarios that assert, run on a backend; those of the store's programs, which answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from activations import Scenario, scenario
from support.parameters import scenarios_in
from support.places import PEERS, RULES

LAB_ONLY = PEERS / "lab_only"
PROGRAMS_FILE = RULES / "programs" / "store.py"
PROGRAMS = scenario.names(PROGRAMS_FILE)


def rules_in(folder: Path) -> list[Any]:
    return scenarios_in(*sorted(folder.glob("*.py")))


def check(target: str, backend: str) -> None:
    rule: Scenario = scenario.load(target)
    rule.run(backend)


def answers(program: str, backend: str) -> list[str]:
    results = scenario.load(f"{PROGRAMS_FILE}::{program}").run(backend)
    (said,) = (result for result in results.values() if result)
    return list(said)
