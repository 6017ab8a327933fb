"""The search for kernels in C, against the slow way: every schedule, and no table of states."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.lower_halves import DELIVERIES, harness_alone, need_gcc, of

from xen_kernel import KERNELS, Limits, Scenario, decide
from xen_kernel.build import program
from xen_kernel.engine import COMPLETE, Program
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED, FOUND, OPEN

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]


def program_of(name: str, fault: int = 0, **options: Any) -> Program:
    scenario = of(name, fault, **options)
    return Program(program(scenario), scenario)


def ends(asked: Program, shared: object, **options: Any) -> set[str]:
    """The memories in which runs end."""
    result, told = asked.search(Limits(), goes_on=True, ends=True, shared=shared, **options)  # type: ignore[arg-type]
    assert result.ends == len({each["end"] for each in told})
    return {each["end"] for each in told}


ALL = product(("solo5", "mini_os", "zephyr"), DELIVERIES, (0, 4))
SHORT = (("solo5", "vector", 4), ("mini_os", "pv", 0), ("zephyr", "callback", 0))


@pytest.mark.parametrize(
    ("name", "delivery", "fault"),
    [pytest.param(*each, marks=() if each in SHORT else pytest.mark.long) for each in ALL],
)
def test_every_state_has_the_ends_of_every_schedule(name: str, delivery: str, fault: int) -> None:
    asked = program_of(name, fault, delivery=delivery, sends=2)
    learned, _ = asked.search(Limits(), goes_on=True)
    for bound in (1, 2):
        by_state = ends(asked, learned.shared, bound=bound)
        assert by_state == ends(asked, learned.shared, bound=bound, every=True)
        assert by_state <= ends(asked, learned.shared)


def test_with_one_event_every_schedule_can_be_taken_and_ends_where_the_states_end() -> None:
    asked = program_of("zephyr", sends=1)
    learned, _ = asked.search(Limits())
    result, _ = asked.search(Limits(), every=True, shared=learned.shared)
    assert result.result == COMPLETE
    assert result.runs > 100
    assert ends(asked, learned.shared) == ends(asked, learned.shared, every=True)


def test_a_search_says_the_same_twice() -> None:
    first, second = (program_of("solo5").search(Limits())[0] for _ in range(2))
    assert (first.states, first.moves, first.shared) == (second.states, second.moves, second.shared)


def test_a_search_that_is_cut_is_no_loss_and_says_what_it_covered() -> None:
    scenario = Scenario((KERNELS / "solo5.c",))
    for limits in (Limits(states=100), Limits(memory=1 << 16)):
        verdict = decide(scenario, limits)
        assert verdict.kind == OPEN
        assert 0 < verdict.figures.states < 2000
        assert "what was covered" in verdict.notes[0]


def test_a_run_that_is_over_before_anybody_takes_a_step_is_no_livelock(tmp_path: Path) -> None:
    scenario = harness_alone(
        tmp_path,
        """
#include "explore.h"
static void nothing(unsigned long none) { (void)none; }
void explore_setup(void) { explore_agent("vCPU 0", nothing, 0); }
""",
    )
    verdict = decide(scenario)
    assert verdict.kind == EXHAUSTED, verdict
    assert (verdict.figures.runs, verdict.figures.states) == (1, 1)


def test_a_bound_is_a_part_of_the_verdict() -> None:
    verdict = decide(Scenario((KERNELS / "solo5.c",)), bound=1)
    assert verdict.kind == BOUNDED
    assert "exhausted at 1 preemption (" in str(verdict)


BOTH_LOOK = """
#include "explore.h"
#ifndef FENCE
#define FENCE __asm__ volatile("" ::: "memory")
#endif
static volatile unsigned long mine, theirs;
static unsigned long i_saw, they_saw;
static void look(unsigned long who)
{
	*(who ? &theirs : &mine) = 1;
	FENCE;
	*(who ? &they_saw : &i_saw) = 2 + (who ? mine : theirs);
	explore_assert(i_saw != 2 || they_saw != 2);
}
void explore_setup(void)
{
	explore_agent("vCPU 0", look, 0);
	explore_agent("peer", look, 1);
}
"""


@pytest.mark.parametrize(
    ("buffers", "fence", "kind"),
    [
        (False, None, EXHAUSTED),
        (True, None, FOUND),
        (True, '__asm__ volatile("mfence" ::: "memory")', EXHAUSTED),
        (True, "__sync_synchronize()", EXHAUSTED),
    ],
)
def test_a_fence_that_is_missing_is_found_where_stores_are_seen_late(
    tmp_path: Path, buffers: bool, fence: str | None, kind: str
) -> None:
    defines = () if fence is None else (f"FENCE={fence}",)
    verdict = decide(harness_alone(tmp_path, BOTH_LOOK, defines=defines, buffers=buffers))
    assert verdict.kind == kind, verdict
