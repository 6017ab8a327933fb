"""What goes wrong in an explored machine: each fault alone finds the program that rests on its
never happening, and leaves alone the one that stands it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.faulty import effort

from activations import Domain
from activations.abi.event_channel import Virq
from activations.cli import main
from activations.errors import BackendError
from activations.store import Store
from xen_sim import Machine, PlainGuest
from xen_sim.explore.course import Following
from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.report import FAULT
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.token import parse as parse_token
from xen_sim.explore.verdict import FOUND
from xen_sim.faults.ask import MOST
from xen_sim.faults.kinds import KINDS, parse
from xen_sim.faults.swarm import Swarm
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

MS = 10**6
GAP = 4 * MS
ITEMS = 3
RUNS = 150


class World(NamedTuple):
    """A guest, and what it sees of a dom0 that produces items and sends an event for each."""

    guest: PlainGuest
    port: int
    produced: Any
    """One word: items so far."""

    @property
    def now(self) -> int:
        return self.guest.platform.time_ns()


Consumer = Callable[[World], object]


def world(consumer: Consumer) -> Programs:
    """dom0 rests 4 ms before each item, so that nothing is left to the order of steps."""

    def body(machine: ExploredMachine) -> object:
        ports: list[int] = []

        def consume(guest: PlainGuest) -> object:
            guest._bound(guest.xen.bind_virq(Virq.TIMER))
            ports.append(guest.alloc_unbound(0))
            return consumer(World(guest, ports[0], produced))

        def produce(guest: PlainGuest) -> None:
            while not ports:
                guest.xen.yield_()
            guest._bound(guest.xen.bind_virq(Virq.TIMER))
            port = guest.bind_interdomain(1, ports[0])
            guest.take()
            for number in range(1, ITEMS + 1):
                rest_until(guest, guest.platform.time_ns() + GAP)
                produced[0] = number
                guest.send(port)

        machine.plain("guest", consume)
        page = machine.plain("dom0", produce).guest.platform.new_frame()
        produced = page.view("items", 0, 8, "Q", None)
        return machine.run()

    return Programs(Program("world", "world"), body)


def rest_until(guest: PlainGuest, deadline: int) -> None:
    while guest.platform.time_ns() < deadline:
        guest.take()
        guest.sleep(deadline)


# Consumers that rest on something


def takes_no_event_for_a_loss(world: World) -> None:
    guest, late = world.guest, world.now + GAP + MS // 2
    while world.port not in guest.take():
        assert world.now < late, "the event was lost"
        guest.sleep(late)


def counts_events(world: World) -> None:
    for _ in range(ITEMS):
        world.guest.wait(world.port)


def takes_each_upcall_for_an_item(world: World) -> None:
    for number in range(1, ITEMS + 1):
        world.guest.sleep()
        world.guest.take()
        assert world.produced[0] >= number, "woken, and there is nothing"


def takes_each_event_for_an_item(world: World) -> None:
    for number in range(1, ITEMS + 1):
        world.guest.wait(world.port)
        assert world.produced[0] >= number, "an event, and there is nothing"


def takes_a_wake_up_for_its_timer(world: World) -> None:
    deadline = world.now + 2 * MS
    world.guest.sleep(deadline)
    assert world.now >= deadline, "too early"


def sleeps(most: float) -> Consumer:
    """Nobody sleeps longer than this by more, it holds."""

    def consumer(world: World) -> None:
        deadline = world.now + 2 * MS
        rest_until(world.guest, deadline)
        assert world.now <= deadline + most * MS, "too late"

    return consumer


# One that rests on nothing


def stands_it(world: World) -> None:
    """Looks, and looks again whenever it wakes, whatever it wakes for."""
    seen = 0
    while seen < ITEMS:
        world.guest.take()
        if world.produced[0] > seen:
            seen = world.produced[0]
        else:
            world.guest.sleep(world.now + 50 * MS)


WEAK: dict[str, Consumer] = {
    "events:late": takes_no_event_for_a_loss,
    "events:with the next": counts_events,
    "events:an upcall for nothing": takes_each_upcall_for_an_item,
    "events:once more": takes_each_event_for_an_item,
    "timers:late": sleeps(0.9),
    "timers:early": takes_a_wake_up_for_its_timer,
    "timers:twice as long": sleeps(1.5),
    "timers:after stolen time": sleeps(50),
    "timers:after a jump of the clock": sleeps(60_000),
}


@pytest.mark.parametrize("fault", WEAK)
def test_a_fault_finds_who_rests_on_its_never_happening(fault: str) -> None:
    weak = world(WEAK[fault])
    assert explore(weak, Effort(strategy="first-come")), "it is well where nothing goes wrong"
    verdict = explore(weak, effort(fault))
    assert verdict.kind == FOUND, verdict
    befell = [moment.what for moment in verdict.found[0].moments if moment.mark == FAULT]
    assert befell
    assert all(what.endswith(fault.partition(":")[2]) for what in befell)
    assert len(verdict.found[0].course) == len(befell), "shrunk to faults alone"


@pytest.mark.parametrize("fault", WEAK)
def test_a_fault_leaves_alone_who_stands_it(fault: str) -> None:
    assert explore(world(stands_it), effort(fault, runs=RUNS))


def test_every_fault_of_events_and_timers_has_a_program_that_it_finds() -> None:
    of = {(kind, name) for kind, name in parse("all") if kind in ("events", "timers")}
    assert {tuple(fault.split(":")) for fault in WEAK} == of


@pytest.mark.parametrize("strategy", ["portfolio", "delays", "walk", "pct", "coverage"])
def test_every_strategy_meets_faults(strategy: str) -> None:
    verdict = explore(
        world(takes_each_event_for_an_item), effort("events", strategy=strategy, runs=1000)
    )
    assert verdict.kind == FOUND, verdict


def test_faults_together_leave_alone_who_stands_them() -> None:
    assert explore(world(stands_it), effort("all", runs=RUNS))
    assert explore(world(stands_it), effort("safe", strategy="portfolio", runs=RUNS))


# xenstore


def counts_up(*, again: bool) -> Programs:
    """A program that counts up a value in a transaction, and looks what came of it."""

    async def count(store: Store) -> None:
        async with store.transaction() as transaction:
            await transaction.write("data/count", "1")

    async def main(xen: Domain) -> None:
        if again:
            await xen.store.transact(lambda transaction: transaction.write("data/count", "1"))
        else:
            await count(xen.store)
        assert await xen.store.read("data/count") == "1"

    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", main)
        return machine.run()

    return Programs(Program("counts up", "counts up"), body)


def test_a_conflict_finds_who_tries_a_transaction_once_and_leaves_alone_who_tries_again() -> None:
    assert explore(counts_up(again=False), Effort(strategy="first-come"))
    verdict = explore(counts_up(again=False), effort("store:conflict"))
    assert verdict.kind == FOUND, verdict
    told = [moment.what for moment in verdict.found[0].moments if moment.mark == FAULT]
    assert told == ["transaction's end: conflict"]
    assert explore(counts_up(again=True), effort("store:conflict", runs=60))
    assert counts_up(again=True).faulty("store:conflict").run(Wrong()).finding is None


# A token, a replay


def test_a_token_holds_for_the_faults_that_it_was_found_with() -> None:
    weak = world(counts_events)
    found = explore(weak, effort("events")).found[0]
    engine = weak.faulty("events")
    assert engine.tell(parse_token(found.token).tape()).run.finding == found.finding
    with pytest.raises(Exception, match="faults"):
        weak.again(found.token)
    with pytest.raises(BaseException, match="nothing can ever happen"):
        engine.again(found.token)


def test_a_machine_without_faults_is_asked_nothing_more() -> None:
    def asked(faults: str) -> int:
        return len(world(stands_it).faulty(faults).tell(Following(())).taken)

    assert asked("none") == asked("none") < asked("events")
    kinds = [choice.fault for choice in questions("none")]
    assert set(kinds) == {""}


def questions(faults: str) -> list[Choice]:
    class Asked(Tape):
        def __init__(self) -> None:
            self.choices: list[Choice] = []

        def choose(self, choice: Choice) -> int:
            self.choices.append(choice)
            return 0

    tape = Asked()
    world(stands_it).faulty(faults).run(tape)
    return tape.choices


# The two phases


class Wrong(Tape):
    """Whatever can go wrong does."""

    def __init__(self) -> None:
        self.times = 0

    def choose(self, choice: Choice) -> int:
        self.times += bool(choice.fault)
        return len(choice.options) - 1 if choice.fault else 0


@pytest.mark.parametrize("kind", ["events", "timers"])
def test_behind_the_last_fault_of_a_run_all_gets_done(kind: str) -> None:
    def waits_for_many(world: World) -> None:
        for _ in range(100):
            rest_until(world.guest, world.now + MS)

    tape = Wrong()
    assert world(waits_for_many).faulty("timers").run(tape).finding is None
    assert tape.times == MOST
    assert world(stands_it).faulty(kind).run(Wrong()).finding is None


# Chance


def test_what_a_swarm_has_happen_depends_on_its_seed_and_not_on_the_schedule() -> None:
    def faults(seed: int, others: int) -> list[int]:
        tape = Swarm(Tape(), seed)
        answers = []
        for _ in range(300):
            for _ in range(others):
                tape.choose(Choice("run next", ("a", "b")))
            answers.append(tape.choose(Choice("guest: timer", ("as ever", "late"), fault="timers")))
        return answers

    assert faults(1, 0) == faults(1, 5)
    assert len({tuple(faults(seed, 0)) for seed in range(20)}) > 5
    never = [seed for seed in range(40) if not any(faults(seed, 0))]
    assert 5 < len(never) < 35, "in some runs it is off"


# Bad input


@pytest.mark.parametrize("faults", ["", "nets", "events,nets", "events:never", "timers:once more"])
def test_a_fault_that_there_is_not_is_refused_with_those_there_are(faults: str) -> None:
    with pytest.raises(BackendError, match=r"there (is|are) no (kind of )?fault.*there are: "):
        explore(world(stands_it), Effort(faults=faults))


def test_a_machine_that_is_not_explored_has_no_faults() -> None:
    for how in ({}, {"seed": 1}, {"explore": True}):
        with pytest.raises(BackendError, match="explored, with a seed or a tape"):
            Machine(faults="events", **how)
    Machine(faults="none")


def test_kinds_are_named_once() -> None:
    for kind in KINDS.values():
        names = [*kind.always, *kind.by_name]
        assert len(set(names)) == len(names)


# The command


DRIVER = """
import asyncio

from activations import Domain, Scenario

driver = Scenario("driver")


@driver.domain("dom0")
async def sender(xen: Domain) -> None:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
        await port.wait()
        port.notify()
        await asyncio.sleep(0.002)
        port.notify()
        await xen.store.wait_for(f"/local/domain/{guest}/data/done")


@driver.domain("guest")
async def counts(xen: Domain) -> None:
    number = int(await xen.store.wait_for("data/port"))
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()
        port.notify()
        await port.wait()
        await port.wait()
    await xen.store.write("data/done", "")
"""


def test_the_command_finds_by_what_any_program_has_to_stand_and_replays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("driver.py").write_text(DRIVER)

    def command(*words: str) -> tuple[int, str]:
        status = main(list(words))
        said = capsys.readouterr()
        return status, said.out + said.err

    def explored(*words: str) -> tuple[int, str]:
        return command("explore", "driver.py", "--strategy", "swarm", "--runs", "100", *words)

    status, said = explored()
    assert status == 1, said
    assert "⚡" in said
    assert "event on port 3: " in said
    token = re.search(r"token: (\S+)", said)
    assert token is not None
    assert command("replay", "driver.py", token[1])[0] == 1
    status, said = command("replay", "driver.py", token[1], "--faults", "none")
    assert status == 2
    assert "faults" in said
    assert explored("--faults", "none")[0] == 0
    status, said = explored("--faults", "gremlins")
    assert status == 2
    assert f"there are: {', '.join(KINDS)}, safe, all, none" in " ".join(said.split())
