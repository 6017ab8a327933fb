"""A real xenstored and the simulated one give the same answers to the same programs."""

from __future__ import annotations

import pytest
from support.parameters import one_in
from support.rules import PROGRAMS, answers

from xen_lab import Lab


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_simulated_xenstored_answers_alike_every_time(program: str) -> None:
    assert answers(program, "sim") == answers(program, "sim")


@pytest.mark.lab
@pytest.mark.parametrize("program", one_in(3, PROGRAMS))
def test_a_real_xenstored_answers_as_the_simulated_one(program: str, lab: Lab) -> None:
    """One of each kind always: dom0's and a guest's, common and not."""
    assert answers(program, "lab") == answers(program, "sim")
