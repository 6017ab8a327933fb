"""A search by an executor of the caller's, whatever that is: the verdict is that of one process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.pace import patience
from support.places import EXAMPLES

from activations import BackendError
from activations.scenario import load, load_one
from xen_sim.explore import hands
from xen_sim.explore.crew import AGAIN, LEFT_OUT
from xen_sim.explore.engine import Engine, Program
from xen_sim.explore.finding import ESCAPE
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.programs import Programs, of_scenario
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.strategies.bounded import Bounded
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED, FOUND, OPEN
from xen_sim.guests import catalogue


class Elsewhere(Executor):
    """As those of other machines are: what goes there and comes from there is pickled, each call
    has a thread of its own, and two that are alike are one."""

    def __init__(self) -> None:
        self._calls: dict[bytes, Future[Any]] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        sent = pickle.dumps((function, arguments))
        if sent not in self._calls:
            self._calls[sent] = Future()
            threading.Thread(target=self._there, args=(sent,)).start()
        return self._calls[sent]

    def _there(self, sent: bytes) -> None:
        function, arguments = pickle.loads(sent)
        try:
            self.answer(self._calls[sent], pickle.loads(pickle.dumps(function(*arguments))))
        except Exception as error:
            self._calls[sent].set_exception(error)

    def answer(self, future: Future[Any], came: Any) -> None:
        future.set_result(came)


class Losing(Elsewhere):
    """Has lost the workers of the first so many calls."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.left = losses

    def answer(self, future: Future[Any], came: Any) -> None:
        if self.left:
            self.left -= 1
            raise ConnectionError("the worker is gone")
        super().answer(future, came)


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, get_context("fork")),
    "elsewhere": Elsewhere,
}
every_executor = pytest.mark.parametrize("of", EXECUTORS)
SMALL = Effort(strategy="preemptions", limit=1, seconds=None, jobs=2)


@every_executor
def test_it_covers_the_same_as_one_process_and_stays_open(of: str) -> None:
    alone = explore(lower_half(), SMALL)
    with EXECUTORS[of]() as executor:
        shared = explore(lower_half(), SMALL, executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert alone.kind == shared.kind == BOUNDED
    assert alone.figures.runs == shared.figures.runs
    assert alone.figures.coverage == shared.figures.coverage
    assert shared.notes == []


def test_what_it_finds_comes_again_here() -> None:
    engine = lower_half(catalogue.find("solo5-2020"))
    alone = explore(engine, Effort(runs=100, seconds=None))
    shared = explore(engine, Effort(runs=100, seconds=None, jobs=2), executor=Elsewhere())
    assert alone.kind == shared.kind == FOUND
    assert str(alone.found[0].finding) == str(shared.found[0].finding)


def test_a_program_with_event_loops_is_sent_as_its_file() -> None:
    engine = of_scenario(load(str(EXAMPLES / "pingpong.py")))
    verdict = explore(engine, Effort(runs=10, seconds=None), executor=Elsewhere())
    assert (verdict.kind, verdict.figures.runs >= 10, verdict.notes[1:]) == (OPEN, True, [])


# A file's own engine

OF_A_FILE = """
import os, random, time, uuid
from pathlib import Path

from activations import promises
from xen_sim.explore.engine import Program
from xen_sim.explore.programs import Programs

HERE = Path(__file__).parent


def by_chance(machine):
    def main(guest):
        return random.random(), uuid.uuid4(), time.time(), os.urandom(4), sorted(map(hash, "ab"))

    lives = [machine.plain("dom0", main), machine.plain("guest", main)]
    drawn = sorted(machine.run().values())  # whichever of them came first
    assert str(drawn) == os.environ.setdefault("DRAWN", str(drawn))
    print("not a message", file=None)
    os.write(1, b"nor is this")
    return drawn


def deadly(machine):
    def main(guest):
        if os.getpid() != int(os.environ["ASKS"]):
            left = int((HERE / "left").read_text())
            (HERE / "left").write_text(str(left - 1))
            if left > 0:
                os._exit(0)

    machine.plain("dom0", main)
    machine.plain("guest", main)
    return machine.run()


def mortal(machine):
    def main(guest):
        promises.sometimes(False, "the moon is blue")
        if os.getpid() != int(os.environ["ASKS"]):
            with (HERE / "runs").open("a") as runs:
                runs.write(".")
                if runs.tell() > 200:
                    os._exit(0)

    machine.plain("dom0", main)
    machine.plain("guest", main)
    return machine.run()


def by_order(machine):
    def main(guest):
        if os.getpid() != int(os.environ["ASKS"]) and hash("a") != int(os.environ["HASH"]):
            raise ValueError("strings hash otherwise here")

    machine.plain("dom0", main)
    return machine.run()


subjects = by_chance, deadly, mortal, by_order
programs = [Programs(Program(each.__name__, "it"), each) for each in subjects]
by_chance, deadly, mortal, by_order = programs
"""


def of_a_file(folder: Path, name: str) -> Programs:
    (folder / "it.py").write_text(OF_A_FILE)
    return load_one(f"{folder / 'it.py'}::{name}", Programs)


def test_chance_and_time_are_those_of_one_process(tmp_path: Path) -> None:
    of_a_file(tmp_path, "by_chance")
    asks = f"""
from concurrent.futures import ThreadPoolExecutor
from activations.scenario import load_one
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import Effort, explore
engine = load_one({str(tmp_path / "it.py")!r} + "::by_chance", Programs)
print(explore(engine, Effort(jobs=2), executor=ThreadPoolExecutor(2)))
"""
    environment = {key: value for key, value in os.environ.items() if key != "DRAWN"}
    command = [sys.executable, "-c", asks]
    done = subprocess.run(
        command, env={**environment, hands.HASHES: "7"}, capture_output=True, text=True
    )
    assert f"by_chance: {EXHAUSTED} (" in done.stdout, done.stdout + done.stderr


def test_a_run_that_ends_its_process_is_reported_and_its_share_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKS", str(os.getpid()))
    for deaths, kind, notes in ((1, EXHAUSTED, [AGAIN]), (3, OPEN, [AGAIN] * 3 + [LEFT_OUT])):
        engine = of_a_file(tmp_path, "deadly")
        (tmp_path / "left").write_text(str(deaths))
        verdict = explore(engine, Effort(strategy="delays"), executor=Elsewhere())
        assert (verdict.kind, verdict.notes) == (kind, notes)
        assert verdict.broken_off == (deaths == 3)


def test_a_search_that_was_broken_off_does_not_say_what_was_so_in_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKS", str(os.getpid()))
    verdict = explore(of_a_file(tmp_path, "mortal"), Effort(strategy="walk"), executor=Elsewhere())
    assert verdict.figures.runs
    assert (verdict.kind, verdict.broken_off) == (OPEN, True)


def test_what_comes_of_another_order_of_sets_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKS", str(os.getpid()))
    monkeypatch.setenv("HASH", "0")
    monkeypatch.delenv(hands.HASHES, raising=False)
    verdict = explore(of_a_file(tmp_path, "by_order"), executor=Elsewhere())
    assert verdict.found[0].finding.kind == ESCAPE
    assert "strings hash otherwise here" in str(verdict.found[0].finding)
    assert "set PYTHONHASHSEED=0" in str(verdict.found[0].finding)


# Executors that fail


def test_what_a_lost_worker_had_is_done_again() -> None:
    verdict = explore(lower_half(), SMALL, executor=Losing(2))
    assert (verdict.kind, verdict.notes) == (BOUNDED, [AGAIN] * 2)


def test_a_search_ends_where_all_workers_are_lost() -> None:
    verdict = explore(lower_half(), SMALL, executor=Losing(100))
    assert (verdict.kind, verdict.notes[-1]) == (OPEN, LEFT_OUT)


def test_a_search_ends_where_an_executor_takes_nothing_more() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    verdict = explore(lower_half(), SMALL, executor=executor)
    assert (verdict.kind, len(verdict.notes)) == (OPEN, 1)
    assert verdict.notes[0].startswith("the executor takes nothing more: ")


def test_an_engine_that_cannot_be_sent_is_refused_at_once() -> None:
    engine = Programs(Program("it", "it"), lambda machine: None)
    with pytest.raises(BackendError, match=r"it cannot be sent to .* take it from a file"):
        explore(engine, SMALL, executor=Elsewhere())


def test_what_an_engine_raises_there_is_raised_here(tmp_path: Path) -> None:
    engine = of_a_file(tmp_path, "deadly")
    sent = hands.Errand(engine)
    (tmp_path / "it.py").unlink()
    answer = sent(1, [])
    assert isinstance(answer, BackendError)
    assert "no such file" in str(answer)


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    errand = hands.Errand(lower_half())
    monkeypatch.setattr(hands, "version", lambda name: "0.0.7")
    answer = errand(1, [])
    assert isinstance(answer, BackendError)
    assert "with xen-activations 0.0.7, and this is Python" in str(answer)


# Hands


def test_one_hand_makes_share_after_share_and_ends_with_the_search() -> None:
    engine: Engine = lower_half()
    errand = hands.Errand(engine)
    recipe = Bounded().next()
    assert recipe is not None
    for number in range(3):
        assert len(errand(number, [recipe])) == 1  # type: ignore[arg-type]
    (hand,) = hands._idle
    errand.over()
    assert hands._idle == []
    assert not hand.alive()


def test_a_hand_whose_worker_is_gone_ends() -> None:
    hand = hands.Hand(pickle.dumps(lower_half()), None)
    assert hand.begins([])
    assert hand.answer() == []
    hand._pipe.close()
    assert hand._process.wait(patience(20)) == 0


def test_a_hand_that_has_ended_is_replaced() -> None:
    errand = hands.Errand(lower_half())
    assert errand(1, []) == []
    (first,) = hands._idle
    first._process.kill()
    first._process.wait()
    assert errand(2, []) == []
    (second,) = hands._idle
    assert second is not first
    errand.over()
    first.end()
