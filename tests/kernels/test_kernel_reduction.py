"""Partial-order reduction of a kernel's C leaves out no end: held against every state.

An end is the memory in which nobody goes on, and the harnesses here note what was read: what
somebody could tell apart ends in different memories.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.drawn import drawn
from support.lower_halves import (
    DELIVERIES,
    FAULTS,
    MANY,
    NAMES,
    harness_alone,
    is_larger,
    looking,
    need_gcc,
)

from xen_kernel import KernelError, Limits, Scenario, decide
from xen_kernel.build import program
from xen_kernel.engine import COMPLETE, FOUND, Program, Result
from xen_kernel.explorer import Explorer
from xen_kernel.scenario import MOST
from xen_sim.explore.search import ONE_OF_EACH
from xen_sim.explore.verdict import EXHAUSTED

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

HERE = Path(__file__).parent


def ends(asked: Program, reduced: bool) -> tuple[set[str], Result]:
    result, told = asked.search(Limits(), goes_on=True, ends=True, reduced=reduced)
    assert result.result in (COMPLETE, FOUND)
    return {each["end"] for each in told}, result


def same(scenario: Scenario, made: Path | None = None) -> tuple[Result, Result]:
    """Both searches, which come to the same ends, and both find something or neither does."""
    asked = Program(made or program(scenario), scenario)
    (every, whole), (some, fewer) = ends(asked, reduced=False), ends(asked, reduced=True)
    assert some == every, (scenario.title, scenario.defines)
    assert bool(fewer.wrong) == bool(whole.wrong), (scenario.title, scenario.defines)
    assert fewer.states <= whole.states
    return whole, fewer


SCENARIOS: tuple[dict[str, Any], ...] = (
    {"sends": 2},
    {"sends": 3},
    {"ports": 2, "sends": 1},
    {"ports": 2, "sends": 1, "spread": True},
    {"sends": 1, "timer": True},
    {"sends": 2, "abi": "2l"},
    {"vcpus": 2, "ports": 2, "sends": 1},
)


def scenarios() -> Iterator[Any]:
    for name, delivery, options in product(NAMES, DELIVERIES, SCENARIOS):
        shortly = delivery == "vector" and options == {"sends": 2}
        if "vcpus" not in options or name in MANY:
            yield pytest.param(
                *(name, delivery, options), marks=() if shortly else pytest.mark.long, id=None
            )


@pytest.mark.parametrize(("name", "delivery", "options"), [*scenarios()])
def test_a_lower_half_comes_to_the_same_ends(
    name: str, delivery: Any, options: dict[str, Any]
) -> None:
    same(looking(name, delivery=delivery, **options))


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(*each, marks=() if each == ("solo5", 4) else pytest.mark.long)
        for each, options in FAULTS.items()
        if "passes" not in options
    ],
)
def test_so_does_one_with_a_fault(name: str, fault: int, delivery: Any) -> None:
    same(looking(name, fault, delivery=delivery, **FAULTS[name, fault]))


CROWDS = ((1, 1), (1, 2), (2, 1), (2, 2))
"""vCPUs and peers."""
LARGE = 300_000
"""States. What is larger is passed over: a few would take longer than all others together."""


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize(("first", "count"), [(1, 3), *drawn(1, 24)])
def test_so_do_scenarios_drawn_by_chance(
    first: int, count: int, delivery: Any, tmp_path: Path
) -> None:
    by_chance, made = (HERE / "by_chance.c").read_text(), None
    several = reduced = runs = 0
    for (vcpus, ports), number in product(CROWDS, range(first, first + count)):
        seed = number % MOST["sends"] + 1
        options = {"delivery": delivery, "vcpus": vcpus, "ports": ports, "sends": seed}
        scenario = harness_alone(tmp_path, by_chance, **options)
        made = made or program(scenario)
        if is_larger(LARGE, Program(made, scenario)):
            continue
        whole, fewer = same(scenario, made)
        runs += 1
        several += whole.ends > 1
        reduced += fewer.states < whole.states
    assert 2 * several > runs
    assert 2 * reduced > runs


def test_two_who_have_nothing_to_do_with_each_other_run_one_after_the_other(
    tmp_path: Path,
) -> None:
    scenario = harness_alone(
        tmp_path,
        """
#include "explore.h"
static volatile unsigned long word[2];
static void write(unsigned long who)
{
	for (unsigned i = 0; i < 5; i++)
		__atomic_fetch_add(&word[who & 1], 1, 5);
}
void explore_setup(void)
{
	explore_agent("vCPU 0", write, 0);
	explore_agent("first", write, 0);
	explore_agent("second", write, 1);
	explore_agent("third", write, 1);
}
""",
    )
    whole, fewer = same(scenario)
    assert whole.states == 6**4, "who ran last is no part of a state"
    assert fewer.states < 2 * 6**2


def test_what_was_left_out_is_said_in_the_verdict() -> None:
    verdict = decide(looking("solo5"), reduced=True)
    assert verdict.kind == EXHAUSTED
    assert ONE_OF_EACH in verdict.notes
    assert ONE_OF_EACH not in decide(looking("solo5")).notes
    for late_or_looking in ({"buffers": True}, {"passes": 1}):
        assert ONE_OF_EACH not in decide(looking("solo5", **late_or_looking), reduced=True).notes


def test_a_bound_and_a_reduction_are_not_had_together() -> None:
    effort = {"strategy": "reduced", "limit": 2, "seconds": 1.0}
    subject = dict.fromkeys(("memory", "harness", "include", "vcpus", "ports", "sends"))
    with pytest.raises(KernelError, match="leave one out"):
        Explorer().explore(subject, effort, lambda *_: None)
