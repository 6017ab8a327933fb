"""Upcalls that come some steps late, under an event loop."""

from __future__ import annotations

from random import Random

import pytest
from support.places import EXAMPLES

from activations.cli import main
from activations.scenario import load
from xen_sim import Choice, Tape
from xen_sim.explore.programs import Programs, of_scenario
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import OPEN

PINGPONG = EXAMPLES / "pingpong.py"
UPCALL = ": upcall"


class AsLateAsMayBe(Tape):
    """Domains change places now and then: an upcall is late where its guest runs on."""

    def __init__(self) -> None:
        self._random = Random(1)
        self.asked: set[tuple[str, ...]] = set()
        self.of: set[str] = set()

    def choose(self, choice: Choice) -> int:
        if not choice.point.endswith(UPCALL):
            return int(self._random.random() < 0.2)
        self.asked.add(choice.options[1:])
        self.of.add(choice.point.removesuffix(UPCALL))
        return len(choice.options) - 1


def pingpong(late: int) -> Programs:
    return of_scenario(load(str(PINGPONG)), late=late)


def test_each_domain_is_asked_how_late_its_upcalls_are() -> None:
    tape = AsLateAsMayBe()
    for _ in range(100):
        assert pingpong(3).run(tape).finding is None
        if len(tape.of) == 2:
            break
    assert tape.asked == {("1 steps late", "2 steps late", "3 steps late")}
    assert len(tape.of) == 2


def test_where_nothing_is_said_they_come_at_once_and_nobody_is_asked() -> None:
    tape = AsLateAsMayBe()
    for _ in range(5):
        pingpong(0).run(tape)
    assert tape.asked == set()


def test_a_loop_stands_upcalls_that_come_late_with_faults_besides() -> None:
    for engine in (pingpong(3), pingpong(3).faulty("events")):
        effort = Effort(runs=25, seconds=None, strategy="walk")
        verdict = explore(engine, effort)
        assert (verdict.kind, verdict.figures.runs) == (OPEN, 25)
    assert "late 3" in engine.program.identity


def test_the_command_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--runs", "3", "--faults", "none")
    assert main(["explore", str(PINGPONG), "--late", "2", *few]) == 0
    assert main(["explore", "--late", "2", *few]) == 0
    assert main(["explore", "--kernel", "solo5", "--late", "2"]) == 2
    assert "--late is about programs in Python" in capsys.readouterr().err
