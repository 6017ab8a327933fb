"""The explorer on programs in Python: what it covers, how it shrinks and keeps what it found."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from typing import Any

import pytest
from support.child_pytest import run_pytest
from support.explored import FEW, halves, kind_of, nothing, programs

from activations import BackendError, Domain
from xen_sim import Machine, PlainGuest, Solo5
from xen_sim.explore.course import Following
from xen_sim.explore.database import Database
from xen_sim.explore.finding import (
    ESCAPE,
    LOST_WAKEUP,
    OVER_AND_OVER,
)
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.portfolio import STRATEGIES
from xen_sim.explore.search import FROM_BEFORE, Effort, explore
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED, OPEN
from xen_sim.guests.solo5_2020 import Solo5Of2020, with_faults

# The lost wake-up of June 2020, and that it is gone


@pytest.mark.parametrize("ports", [1, 2])
def test_the_lost_wake_up_of_june_2020_is_found_at_once(ports: int) -> None:
    """The code of the mail, and its root cause alone, which takes a schedule."""
    for kernel in (Solo5Of2020, with_faults(4)):
        began = time.process_time()
        verdict = explore(lower_half(kernel, ports=ports, sends=2))
        assert time.process_time() - began < 0.5
        assert kind_of(verdict) == LOST_WAKEUP
        assert "sleeps, and its port 1 (interdomain, domain 0, port 1)" in str(verdict)


@pytest.mark.parametrize(
    ("fault", "sends", "kind"),
    [(1, 3, LOST_WAKEUP), (2, 2, LOST_WAKEUP), (3, 2, OVER_AND_OVER), (4, 2, LOST_WAKEUP)],
)
def test_each_of_the_four_faults_is_found_alone(fault: int, sends: int, kind: str) -> None:
    found = explore(lower_half(with_faults(fault), sends=sends, rests=True), FEW)
    assert kind_of(found) == kind
    assert len(found.found[0].course) <= 2


@pytest.mark.parametrize("ports", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_shipped_lower_half_loses_nothing_at_three_preemptions(ports: int) -> None:
    effort = Effort(seconds=None, strategy="preemptions", limit=3)
    verdict = explore(lower_half(Solo5, ports=ports), effort)
    assert verdict.kind == BOUNDED
    assert "exhausted at 3 preemptions (" in str(verdict)


# Strategies


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"first-come", "swarm"}))
def test_every_strategy_finds_the_root_cause(strategy: str) -> None:
    effort = Effort(runs=300, seconds=None, strategy=strategy)
    assert kind_of(explore(lower_half(with_faults(4)), effort)) == LOST_WAKEUP


def test_first_come_takes_the_ordinary_course_alone() -> None:
    verdict = explore(lower_half(with_faults(4)), Effort(strategy="first-come"))
    assert (verdict.kind, verdict.figures.runs) == (OPEN, 1)


def one_step_each(machine: ExploredMachine) -> object:
    """Three vCPUs that do nothing but be there: as many courses as there are orders."""
    order: list[str] = []

    def main(guest: PlainGuest) -> None:
        order.append(guest.name)

    for name in ("dom0", "a", "b"):
        machine.plain(name, main)
    machine.run()
    orders.append(tuple(order))
    return None


orders: list[tuple[str, ...]] = []


def test_a_search_without_a_bound_ends_where_every_course_was_taken() -> None:
    for strategy in ("delays", "preemptions"):
        orders.clear()
        verdict = explore(programs(one_step_each), Effort(strategy=strategy))
        assert verdict.kind == EXHAUSTED
        assert verdict.figures.runs == 6
        searched = orders[2:]  # the first two were to see whether the program is deterministic
        assert len(searched) == len(set(searched)) == 6


def test_workers_cover_the_same_as_one_process() -> None:
    effort = {"strategy": "preemptions", "limit": 1}
    alone = explore(lower_half(), Effort(**effort))
    shared = explore(lower_half(), Effort(**effort, jobs=2))
    assert alone.kind == shared.kind == BOUNDED
    assert alone.figures.runs == shared.figures.runs
    assert alone.figures.coverage == shared.figures.coverage


def test_a_worker_that_dies_is_reported_and_its_share_done_again(tmp_path: Path) -> None:
    ours, died = os.getpid(), tmp_path / "died"

    def main(guest: PlainGuest) -> None:
        with suppress(FileExistsError):
            if os.getpid() != ours:
                died.touch(exist_ok=False)
                os._exit(1)

    def body(machine: ExploredMachine) -> object:
        machine.plain("dom0", main)
        machine.plain("guest", main)
        return machine.run()

    verdict = explore(programs(body), Effort(jobs=2))
    assert verdict.kind == EXHAUSTED
    assert verdict.notes.count("a worker died; its share was done again") == 1


def test_pct_says_what_its_runs_are_worth() -> None:
    verdict = explore(lower_half(), Effort(runs=20, strategy="pct"))
    assert verdict.notes[0].startswith("PCT: the chance to have seen a bug of depth 1: 0.9")


def test_ctrl_c_keeps_what_was_covered() -> None:
    pressed = []

    def press(figures: Any, doing: str) -> None:
        if figures.runs == 10 and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    verdict = explore(lower_half(), live=press)
    assert (verdict.kind, verdict.figures.runs) == (OPEN, 10)
    assert "interrupted" in verdict.notes


# Shrinking, tokens, failures from before


def test_what_chance_found_is_shrunk_to_one_deviation() -> None:
    for strategy in ("walk", "pct", "coverage"):
        verdict = explore(lower_half(with_faults(4)), Effort(runs=300, strategy=strategy))
        assert len(verdict.found[0].course) == 1, strategy


def test_a_failure_is_tried_first_the_next_time_and_forgotten_once_it_is_mended(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / ".activations")
    first = explore(lower_half(with_faults(4)), FEW, database=database)
    again = explore(lower_half(with_faults(4)), FEW, database=database)
    assert again.found[0].strategy == FROM_BEFORE
    assert again.figures.runs == 1
    assert again.found[0].token == first.found[0].token

    class Mended(Solo5):
        name = Solo5Of2020.name  # the same program, as its token has it

    assert explore(lower_half(Mended), Effort(runs=5), database=database)
    assert not list(database.of(lower_half(Mended).program.identity))


@pytest.mark.parametrize(
    "said",
    [
        "[" * 100_000,
        "null",
        '{"program": "mine", "token": {}, "found": 5, "taken": []}',
        '{"program": "mine", "token": "x1-aaaa", "found": "lost", "taken": [[1]]}',
    ],
)
def test_whatever_else_lies_among_the_kept_failures_is_passed_over(
    said: str, tmp_path: Path
) -> None:
    (tmp_path / "x1-aaaa.json").write_text(said)
    assert not list(Database(tmp_path).of("mine"))


def test_a_fifo_among_the_kept_failures_is_not_waited_for(tmp_path: Path) -> None:
    database = Database(tmp_path)
    kept = tmp_path / "x1-aaaa.json"
    os.mkfifo(kept)
    assert not list(database.of("mine"))
    database.keep("x1-aaaa", "mine", "lost", ())
    assert kept.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {".gitignore", "x1-aaaa.json"}


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As a file system that is full, in memory too."""
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, (soft, hard))


def test_a_failure_that_finds_no_room_leaves_nothing_behind_and_says_where(tmp_path: Path) -> None:
    with files_no_longer_than(16):
        verdict = explore(lower_half(with_faults(4)), FEW, database=Database(tmp_path))
    (note,) = (note for note in verdict.notes if "not kept" in note)
    assert note == f"the failure was not kept in {tmp_path} (File too large): note its token"
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_processes_that_cannot_wait_for_each_other_are_refused_with_what_they_lack() -> None:
    with (
        files_no_longer_than(16),
        pytest.raises(BackendError, match=r"no 2 processes can search: /dev/shm.*leave out --jobs"),
    ):
        explore(lower_half(), Effort(runs=50, jobs=2))


def test_the_table_ends_where_it_went_wrong() -> None:
    verdict = explore(lower_half(with_faults(4)), FEW)
    lines = verdict.found[0].table().splitlines()
    assert lines[0].split() == ["guest", "│", "dom0"]
    assert any(line.startswith(" ↷ about to hlt") for line in lines)
    assert lines[-1].startswith(" ✗ lost wake-up")


# Determinism


@pytest.mark.parametrize(
    "chance",
    [
        random.random,
        lambda: random.SystemRandom().random(),
        lambda: os.urandom(4),
        lambda: uuid.uuid4(),
        lambda: uuid.uuid1(),
        lambda: time.time(),
        lambda: time.monotonic_ns(),
    ],
)
def test_chance_and_time_are_the_same_in_every_run(chance: Callable[[], object]) -> None:
    drawn = []

    def body(machine: ExploredMachine) -> object:
        async def main(xen: Domain) -> None:
            await asyncio.sleep(1)
            drawn.append(chance())

        machine.boot("dom0", main)
        return machine.run()

    before = random.getstate()
    explore(programs(body), Effort(runs=3))
    assert len(drawn) > 2
    assert len(set(drawn)) == 1
    assert random.getstate() == before


def test_a_sleep_that_would_stop_every_domain_is_refused() -> None:
    async def main(xen: Domain) -> None:
        time.sleep(1)

    verdict = explore(halves(dom0=main), FEW)
    assert "await asyncio.sleep()" in str(verdict.found[0].finding)


def test_a_program_that_escapes_determinism_is_found_out_with_its_line() -> None:
    runs: list[int] = []

    async def main(xen: Domain) -> None:
        runs.append(0)
        for _ in range(len(runs)):
            await xen.store.write("data/escapes", "1")

    verdict = explore(halves(guest=main, dom0=nothing), FEW)
    assert kind_of(verdict) == ESCAPE
    said = verdict.found[0].finding.said
    assert "the same run twice: choice" in said
    assert "in test_a_program_that_escapes_determinism" in said
    assert verdict.found[0].how().endswith("; found by taking it twice, run 2")


def test_a_run_that_ends_otherwise_is_an_escape_too() -> None:
    runs: list[int] = []

    def body(machine: ExploredMachine) -> object:
        runs.append(0)
        return len(runs)

    assert "it ended in another state" in str(explore(programs(body), FEW))


def test_the_same_course_twice_is_the_same_run_to_the_last_step() -> None:
    engine = lower_half()
    with engine.session():
        assert engine.tell(Following(())) == engine.tell(Following(()))


# pytest


TESTS = """
import pytest
from xen_sim.guests.solo5_2020 import with_faults


@pytest.mark.xen(explore=40)
@pytest.mark.parametrize("faults", [(), (4,)])
def test_the_guest_hears(xen_machine, faults):
    ports = []

    def guest(guest):
        ports.append(guest.alloc_unbound(0))
        guest.wait(ports[0])
        return "heard"

    def dom0(guest):
        while not ports:
            guest.xen.yield_()
        guest.send(guest.bind_interdomain(1, ports[0]))

    xen_machine.plain("guest", guest, kernel=with_faults(*faults))
    xen_machine.plain("dom0", dom0)
    assert xen_machine.run()["guest"] == "heard"
"""


def test_a_marked_test_is_explored_and_its_failure_comes_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    said = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in said
    assert "✗ lost wake-up" in said
    token = said.partition("--xen-replay ")[2].split()[0]
    said = run_pytest(tmp_path, "-k", "faults1", "--xen-replay", token)
    assert "1 failed" in said
    assert "BlockedForever" in said


def test_a_machine_for_a_test_that_is_not_marked_is_a_plain_one(xen_machine: Machine) -> None:
    assert type(xen_machine) is Machine


def test_a_run_imports_neither_the_explorer_nor_the_views() -> None:
    code = (
        "import sys, xen_sim; xen_sim.Machine().run(); "
        "sys.exit(any(n.startswith(('xen_sim.explore', 'xen_sim.views')) for n in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
