"""Scenarios drawn by chance come to the ends that they have where somebody else searches them, in
another language; and to the same ones however they are searched."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.by_chance import ByChance, End
from support.drawn import MARKS, turn
from support.lower_halves import need_gcc

from xen_kernel import Limits, Scenario
from xen_kernel.build import program
from xen_kernel.engine import COMPLETE, FOUND, Program, Result

need_gcc()

pytestmark = pytest.mark.once

HARNESS = Path(__file__).parent / "by_chance.c"
ORDERS: dict[str, dict[str, Any]] = {"": {}, "x86": {"buffers": True}, "arm64": {"arch": "arm64"}}
WAYS = [
    (order, delivery)
    for order, delivery in product(ORDERS, ("vector", "callback", "pv"))
    if (order, delivery) != ("arm64", "pv")
]
ONE, TWO_VCPUS, TWO_PEERS = (1, 1), (2, 1), (1, 2)
"""vCPUs and peers."""
long = pytest.mark.long


class Drawn:
    """One of them, to be searched by the engine. All are one program."""

    made: Path
    kernel: Path

    def __init__(self, order: str, delivery: Any, crowd: tuple[int, int], seed: int) -> None:
        vcpus, ports = crowd
        options = {"delivery": delivery, "vcpus": vcpus, "ports": ports, **ORDERS[order]}
        self.scenario = Scenario((self.kernel,), harness=HARNESS, sends=seed, **options)

    def search(self, passes: int = 0, **how: Any) -> tuple[set[End], Result]:
        asked = Program(self.made, replace(self.scenario, passes=passes))
        result, told = asked.search(Limits(), goes_on=True, ends=True, **how)
        assert result.result in (COMPLETE, FOUND)
        return {(tuple(map(tuple, end["vcpus"])), tuple(end["notes"])) for end in told}, result


@pytest.fixture(autouse=True)
def made(tmp_path: Path, kernel_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "kernel.c"
    kernel.write_text("")
    monkeypatch.setattr(Drawn, "kernel", kernel, raising=False)
    scenario = Scenario((kernel,), harness=HARNESS)
    monkeypatch.setattr(Drawn, "made", program(scenario), raising=False)


@pytest.mark.parametrize(("order", "delivery"), WAYS)
@pytest.mark.parametrize(
    ("crowd", "seeds"),
    [
        (ONE, range(1, 8)),
        pytest.param(ONE, turn(4, range(8, 100)), marks=MARKS),
        pytest.param(TWO_VCPUS, range(1, 12), marks=long),
        pytest.param(TWO_PEERS, range(1, 6), marks=long),
    ],
)
def test_every_end_and_no_other_is_one_of_the_model_in_python(
    order: str, delivery: str, crowd: tuple[int, int], seeds: range
) -> None:
    several = 0
    for seed in seeds:
        ends, _ = Drawn(order, delivery, crowd, seed).search()
        assert ends == ByChance(delivery, *crowd, seed, order).ends(), seed
        several += len(ends) > 1
    assert 2 * several > len(seeds)


@pytest.mark.parametrize(("order", "delivery"), WAYS)
@pytest.mark.parametrize(
    ("crowds", "seeds"),
    [
        ((ONE, TWO_VCPUS), (1,)),
        *(pytest.param((crowd,), range(2, 8), marks=long) for crowd in (ONE, TWO_VCPUS)),
        pytest.param((TWO_PEERS,), turn(4, range(2, 6)), marks=MARKS),
    ],
)
def test_however_it_is_searched_it_is_the_same(
    order: str, delivery: str, crowds: Any, seeds: Any
) -> None:
    for crowd, seed in product(crowds, seeds):
        drawn = Drawn(order, delivery, crowd, seed)
        ends, alone = drawn.search()
        with_many_jobs_it_is_the_same(drawn)
        fewer: set[End] = set()
        for bound in (0, 1, 3):
            some = with_many_jobs_it_is_the_same(drawn, bound=bound)
            assert fewer <= some <= ends, (crowd, seed, bound)
            fewer = some
        for passes in (1, 2):
            assert with_many_jobs_it_is_the_same(drawn, passes=passes) <= ends
        if order:
            assert Drawn("", delivery, crowd, seed).search()[0] <= ends
        else:
            for jobs in (1, 3):
                reduced, result = drawn.search(reduced=True, jobs=jobs)
                assert reduced == ends, (crowd, seed, jobs)
                assert bool(result.wrong) == bool(alone.wrong)


def with_many_jobs_it_is_the_same(drawn: Drawn, **how: Any) -> set[End]:
    (ends, alone), (together, crew) = drawn.search(**how), drawn.search(jobs=3, **how)
    assert together == ends, (drawn.scenario.title, how)
    assert crew.states == alone.states, (drawn.scenario.title, how)
    assert bool(crew.wrong) == bool(alone.wrong), (drawn.scenario.title, how)
    return ends
