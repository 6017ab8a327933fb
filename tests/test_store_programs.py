"""A real xenstored and the simulated one give the same answers to the same programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from activations import scenario
from xen_lab import Lab

FILE = Path(__file__).parent / "rules" / "programs" / "store.py"
PROGRAMS = scenario.names(FILE)


def answers(program: str, backend: str) -> list[str]:
    results = scenario.load(f"{FILE}::{program}").run(backend)
    (said,) = (result for result in results.values() if result)
    return list(said)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_simulated_xenstored_answers_alike_every_time(program: str) -> None:
    assert answers(program, "sim") == answers(program, "sim")


@pytest.mark.lab
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_real_xenstored_answers_as_the_simulated_one(program: str, lab: Lab) -> None:
    assert answers(program, "lab") == answers(program, "sim")
