"""Lower halves in C: each is right under every delivery, and each fault planted in one is found."""

from __future__ import annotations

from itertools import product

import pytest
from support.lower_halves import DELIVERIES, FAULTS, MANY, NAMES, need_gcc, of

from xen_kernel import KERNELS, decide, replay
from xen_kernel.verdicts import STARVATION
from xen_sim.explore.finding import LOST_WAKEUP, OVER_AND_OVER
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED, FOUND

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

SHORTLY = ("solo5", "linux_2l", "linux_fifo")
"""Those of the plain run under each delivery."""


@pytest.mark.parametrize(
    ("name", "delivery"),
    [
        pytest.param(name, delivery, marks=() if name in SHORTLY else pytest.mark.long)
        for name, delivery in product(NAMES, DELIVERIES)
    ],
)
def test_a_right_lower_half_loses_nothing_in_any_order(name: str, delivery: str) -> None:
    verdict = decide(of(name, delivery=delivery, ports=2, sends=1))
    assert verdict.kind == EXHAUSTED, verdict


MORE = ({"sends": 3}, {"ports": 2, "sends": 1, "spread": True}, {"sends": 2, "buffers": True})


@pytest.mark.long
@pytest.mark.parametrize("options", MORE, ids=str)
@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("name", NAMES)
def test_nor_in_more_scenarios(name: str, delivery: str, options: dict[str, object]) -> None:
    verdict = decide(of(name, delivery=delivery, **options))
    assert verdict.kind == EXHAUSTED, verdict


@pytest.mark.parametrize("name", MANY)
def test_one_for_many_vcpus_loses_nothing_on_two(name: str) -> None:
    verdict = decide(of(name, vcpus=2, ports=2, sends=1))
    assert verdict.kind == EXHAUSTED, verdict


def test_a_timer_takes_nothing_away() -> None:
    assert decide(of("solo5", timer=True, sends=1)).kind == EXHAUSTED


SHORT = [
    (name, fault)
    for name, fault in FAULTS
    if name == "solo5" or (fault == 1 and name not in SHORTLY)
]
LONG = [each for each in FAULTS if each not in SHORT]


@pytest.mark.parametrize(
    ("name", "fault"), [*SHORT, *(pytest.param(*each, marks=pytest.mark.long) for each in LONG)]
)
def test_a_planted_fault_is_found(name: str, fault: int) -> None:
    verdict = decide(of(name, fault, **FAULTS[name, fault]))
    assert verdict.found, verdict
    assert verdict.found[0].finding.kind in (LOST_WAKEUP, OVER_AND_OVER, STARVATION)


def test_a_port_that_is_passed_over_while_others_are_served_starves() -> None:
    found = decide(of("turns", 1, ports=2, passes=2)).found[0]
    assert found.finding.kind == STARVATION
    assert "port 2 is pending and not masked, and 2 passes have served others" in found.finding.said


@pytest.mark.parametrize("delivery", ["vector", pytest.param("callback", marks=pytest.mark.long)])
def test_whoever_begins_behind_the_port_it_took_last_serves_each_in_its_turn(delivery: str) -> None:
    some = decide(of("turns", delivery=delivery, ports=2, passes=2), bound=1)
    assert some.kind == BOUNDED, some


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "passes", "kind"),
    [
        ("turns", 2, EXHAUSTED),
        ("turns", 1, FOUND),
        ("solo5", 1, EXHAUSTED),
        ("mini_os", 1, EXHAUSTED),
    ],
)
def test_one_that_takes_all_in_a_pass_starves_nobody(name: str, passes: int, kind: str) -> None:
    assert decide(of(name, ports=2, passes=passes)).kind == kind


def test_a_verdict_says_that_starvation_was_not_asked_for() -> None:
    def left_out(**options: object) -> str:
        return " ".join(decide(of("zephyr", sends=1, **options)).leaves_out)

    assert "starvation" in left_out(ports=2)
    assert "starvation" not in left_out(ports=1)
    assert "starvation" not in left_out(ports=2, passes=2)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_three_faults_at_least(name: str) -> None:
    assert len([fault for planted, fault in FAULTS if planted == name]) >= 3


def test_the_schedule_has_the_lines_of_the_source() -> None:
    found = decide(of("solo5", 4)).found[0]
    lines = (KERNELS / "solo5.c").read_text().split("\n")
    notes = [moment.note for moment in found.moments if moment.what == "hlt"]
    assert [note.partition(":")[0] for note in notes] == ["solo5.c"]
    assert '"hlt"' in lines[int(notes[0].partition(":")[2]) - 1]
    assert found.table().index("upcall") < found.table().index("hlt")


def test_a_token_gives_the_same_run_again() -> None:
    scenario = of("solo5", 4)
    found = decide(scenario).found[0]
    again = replay(scenario, found.token)
    assert (again.finding, again.moments) == (found.finding, found.moments)


def test_what_the_model_leaves_out_stands_in_the_verdict() -> None:
    assert any("store buffers" in each for each in decide(of("solo5")).leaves_out)
    assert not any("store buffers" in each for each in decide(of("solo5", buffers=True)).leaves_out)
