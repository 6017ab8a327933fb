"""The store's client on Xen's other xenstored, the one in OCaml: a lab of its own, booted once.

The rules are those that hold on every xenstored, and those of `oxenstored_only` where it differs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.parameters import one_in, scenarios_in, some_in
from support.places import PEERS, RULES
from support.rules import LAB_ONLY, PROGRAMS, answers, check
from support.xens_test_program import built, pass_in_dom0

import xen_lab

OXENSTORED_ONLY = PEERS / "oxenstored_only" / "store.py"
ALIKE = [RULES / f"{name}.py" for name in ("store", "store_client")]
FILES = [
    *some_in(3, *ALIKE),
    *scenarios_in(LAB_ONLY / "passing_domain.py", OXENSTORED_ONLY),
    *some_in(12, RULES / "vchan.py"),
]
"""Of vchan, only that its ends find each other by the store is xenstored's part."""
COMMON = [name for name in PROGRAMS if name.startswith("common")]

pytestmark = [pytest.mark.lab, pytest.mark.own_lab]


@pytest.fixture(scope="module")
def oxenstored(lab_parts: None) -> Iterator[xen_lab.Lab]:
    """A lab whose dom0 runs oxenstored; scenarios run on it within this module."""
    with xen_lab.Lab(xenstored="oxenstored") as booted, xen_lab.backend.using(booted):
        yield booted


def test_it_is_the_one_that_runs(oxenstored: xen_lab.Lab) -> None:
    status, processes = oxenstored.shell("dom0", ["ps", "-o", "comm"])
    assert status == 0
    assert "oxenstored" in processes.split()
    assert "xenstored" not in processes.split()


@pytest.mark.parametrize("rule", FILES)
def test_a_rule_holds_on_oxenstored(rule: str, oxenstored: xen_lab.Lab) -> None:
    check(rule, "lab")


@pytest.mark.parametrize("program", one_in(3, COMMON))
def test_oxenstored_answers_as_the_simulated_one(program: str, oxenstored: xen_lab.Lab) -> None:
    assert answers(program, "lab") == answers(program, "sim")


def test_xens_own_test_program_passes(oxenstored: xen_lab.Lab, pytestconfig: pytest.Config) -> None:
    pass_in_dom0(oxenstored, built(pytestconfig))
