"""Several processes that search a kernel together come to what one comes to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.engines import engines_of, wait_for_engines
from support.lower_halves import DELIVERIES, FAULTS, NAMES, harness_alone, looking, need_gcc, of
from support.pace import patience

from xen_kernel import KERNELS, KernelError, Limits, Scenario, decide, replay
from xen_kernel.build import program
from xen_kernel.engine import COMPLETE, FOUND, Program, Result
from xen_kernel.explorer import MOST_JOBS, Explorer
from xen_sim.explore.finding import LIVELOCK
from xen_sim.explore.verdict import EXHAUSTED, OPEN

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

BIG = {"ports": 2, "spread": True, "timer": True}
"""A search that goes on for half a minute."""


def searched(scenario: Scenario, jobs: int, **how: Any) -> tuple[set[str], Result]:
    asked = Program(program(scenario), scenario)
    result, told = asked.search(Limits(), goes_on=True, ends=True, jobs=jobs, **how)
    assert result.result in (COMPLETE, FOUND)
    assert result.ends == len(told), "each end is told once, whoever comes to it"
    return {each["end"] for each in told}, result


def same(scenario: Scenario, **how: Any) -> None:
    (ends, alone), (together, crew) = searched(scenario, 1, **how), searched(scenario, 3, **how)
    assert together == ends
    assert crew.states == alone.states
    assert crew.shared == alone.shared
    assert bool(crew.wrong) == bool(alone.wrong)


SCENARIOS: tuple[dict[str, Any], ...] = (
    {"sends": 2},
    {"ports": 2, "sends": 1, "spread": True},
    {"sends": 1, "timer": True},
    {"sends": 2, "abi": "2l"},
    {"sends": 1, "buffers": True},
)


def scenarios() -> Iterator[Any]:
    for name, delivery, options in product(NAMES, DELIVERIES, SCENARIOS):
        short = delivery == "vector" and options == {"sends": 2}
        yield pytest.param(
            *(name, delivery, options), marks=() if short else pytest.mark.long, id=None
        )


@pytest.mark.parametrize(("name", "delivery", "options"), [*scenarios()])
def test_as_many_states_and_the_same_ends(
    name: str, delivery: Any, options: dict[str, Any]
) -> None:
    same(looking(name, delivery=delivery, **options))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("solo5", {"ports": 2, "spread": True}),
        ("linux_fifo", {"arch": "arm64"}),
        pytest.param("linux_2l", {"vcpus": 2, "ports": 2, "sends": 1}, marks=pytest.mark.long),
        pytest.param("linux_2l", {"ports": 2, "sends": 1, "passes": 2}, marks=pytest.mark.long),
        pytest.param("linux_2l", {"ports": 2, "spread": True}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_so_it_is_in_larger_scenarios(name: str, options: dict[str, Any]) -> None:
    same(looking(name, **options))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(*each, marks=() if each == ("solo5", 4) else pytest.mark.long)
        for each in FAULTS
    ],
)
def test_a_planted_fault_is_found_and_its_token_gives_the_run_again(name: str, fault: int) -> None:
    scenario = of(name, fault, **FAULTS[name, fault])
    found = decide(scenario, jobs=3).found[0]
    assert bool(searched(looking(name, fault, **FAULTS[name, fault]), 3)[1].wrong)
    assert replay(scenario, found.token).finding == found.finding


def test_a_bound_has_the_same_states_with_several() -> None:
    for bound in range(4):
        same(looking("mini_os"), bound=bound)


def test_every_schedule_is_taken_by_one_of_them() -> None:
    scenario = looking("zephyr", sends=1)
    shared = searched(scenario, 1)[1].shared
    (ends, alone), (together, crew) = (
        searched(scenario, jobs, every=True, shared=shared) for jobs in (1, 3)
    )
    assert (together, crew.runs) == (ends, alone.runs)


@pytest.mark.parametrize("name", ["solo5", "linux_fifo"])
def test_a_reduced_search_comes_to_every_end_with_several(name: str) -> None:
    scenario = looking(name, ports=2, sends=1)
    ends, _ = searched(scenario, 1)
    assert searched(scenario, 3, reduced=True)[0] == ends


def test_work_is_given_to_whoever_has_none() -> None:
    asked = Program(program(looking("solo5")), looking("solo5", ports=2, spread=True))
    until = time.monotonic() + patience(60)
    while not asked.search(Limits(), jobs=3)[0].given:
        assert time.monotonic() < until
    assert asked.search(Limits())[0].given == 0


WAITS_FOR_NOBODY = """
#include "explore.h"
static volatile unsigned long turn, mine;
static void wait(unsigned long none)
{
	mine = 1;
	if (turn == 3)
		while (turn != 4)
			;
	mine = 0;
}
static void play(unsigned long who)
{
	if (turn == who)
		turn = who + 1;
	if (mine)
		turn = turn;
}
void explore_setup(void)
{
	explore_agent("vCPU 0", wait, 0);
	explore_agent("third", play, 2);
	explore_agent("second", play, 1);
	explore_agent("first", play, 0);
}
"""


def test_a_livelock_is_the_same_with_several(tmp_path: Path) -> None:
    scenario = harness_alone(tmp_path, WAITS_FOR_NOBODY)
    for jobs in (1, 3):
        found = decide(scenario, jobs=jobs).found[0]
        assert found.finding.kind == LIVELOCK
        assert replay(scenario, found.token).finding.kind == LIVELOCK


def test_what_the_engine_does_not_take_is_said() -> None:
    with pytest.raises(KernelError, match=f"the engine takes 1 to {MOST_JOBS}"):
        Explorer().explore(
            dict.fromkeys(("memory", "harness", "include", "vcpus", "ports", "sends")),
            {"strategy": None, "limit": None, "seconds": 1.0, "jobs": MOST_JOBS + 1},
            lambda *_: None,
        )


# How it ends


@pytest.fixture
def exploring() -> Iterator[subprocess.Popen[str]]:
    """Three processes in the midst of a search, started from a terminal."""
    decide(Scenario((KERNELS / "solo5.c",), sends=1))  # it is compiled
    words = ("--kernel", "solo5", "--ports", "2", "--spread", "--timer", "--delivery", "vector")
    command = [sys.executable, "-m", "activations", "explore", *words, "--jobs", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            wait_for_engines(process.pid, 3)
            yield process
        finally:
            process.kill()


def test_ctrl_c_ends_all_of_them_and_says_what_was_covered(
    exploring: subprocess.Popen[str],
) -> None:
    os.killpg(exploring.pid, signal.SIGINT)
    _, said = exploring.communicate(timeout=patience(30))
    assert exploring.returncode == 130, said
    assert "interrupted" in said
    wait_for_engines(exploring.pid, 0)


def test_none_outlives_who_asked_for_the_search(exploring: subprocess.Popen[str]) -> None:
    exploring.kill()
    exploring.wait()
    wait_for_engines(exploring.pid, 0)


def test_one_that_dies_is_told_and_nothing_is_said_to_be_exhausted() -> None:
    killed: list[int] = []

    def live(figures: object, doing: str) -> None:
        others = [other for first in engines_of(os.getpid()) for other in engines_of(first)]
        if others and not killed:
            killed.append(others[0])
            os.kill(others[0], signal.SIGKILL)

    verdict = decide(Scenario((KERNELS / "solo5.c",), **BIG), Limits(seconds=1), live=live, jobs=3)
    assert killed
    assert verdict.kind == OPEN
    assert verdict.figures.states > 0
    assert any("one of the processes that searched died" in note for note in verdict.notes)


def test_a_search_that_is_cut_is_told_as_one_alone_is() -> None:
    scenario = Scenario((KERNELS / "solo5.c",))
    for limits in (Limits(states=100), Limits(memory=1 << 17)):
        verdict = decide(scenario, limits, jobs=3)
        assert verdict.kind == OPEN
        assert 0 < verdict.figures.states < 2000
    assert decide(scenario, jobs=3).kind == EXHAUSTED
