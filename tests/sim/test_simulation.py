"""The simulated machine as a whole: determinism, scale, time, and how runs end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.places import RULES

from activations import (
    BackendError,
    BlockedForever,
    Domain,
    DomainFailed,
    LeakWarning,
    Scenario,
    vchan,
)
from xen_sim import Diverged, Machine, Recording, Replay, Schedule, Seeded, Tape, Trace

EVENTS = RULES / "events.py"


async def talk(xen: Domain, peers: int) -> list[int]:
    """Meet `peers` guests and answer each in the order in which they come."""
    order: list[int] = []
    names = [f"guest{number}" for number in range(peers)]

    async def serve(name: str) -> None:
        domid = await xen.find(name)
        with xen.events.alloc_unbound(domid) as port:
            await xen.store.write(f"/local/domain/{domid}/data/port", str(port.number))
            await port.wait()
            order.append(domid)
            port.notify()

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(serve(name))
    return order


async def call(xen: Domain) -> float:
    with xen.events.bind_interdomain(0, int(await xen.store.wait_for("data/port"))) as port:
        await port.wait()
        await asyncio.sleep(xen.domid % 3)
        port.notify()
        await port.wait()
    return xen.loop.time()


def crowd(machine: Machine, peers: int) -> list[int]:
    machine.boot("dom0", lambda xen: talk(xen, peers))
    for number in range(peers):
        machine.boot(f"guest{number}", call)
    order: list[int] = machine.run()["dom0"]
    return order


def trace_of(target: str, tmp_path: Path, hash_seed: str, *options: str) -> bytes:
    """The trace that the command writes in a process of its own."""
    out = tmp_path / f"trace-{hash_seed}"
    subprocess.run(
        [sys.executable, "-m", "activations", "run", target, "--trace", str(out), *options],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return out.read_bytes()


@pytest.mark.parametrize("options", [(), ("--seed", "7")], ids=["first come", "seeded"])
def test_the_same_choices_give_the_same_trace_in_any_process(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    target = f"{EVENTS}::two_domains_ping_and_pong"
    first = trace_of(target, tmp_path, "1", *options)
    assert first == trace_of(target, tmp_path, "4242", *options)
    assert first.count(b"\n") > 40


def test_a_crowd_gives_the_same_trace_twice_and_another_with_another_seed() -> None:
    def trace(seed: int) -> str:
        kept = Trace()
        crowd(Machine(seed=seed, trace=kept), 8)
        return kept.lines()

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_a_recorded_tape_replays_the_run() -> None:
    recording = Recording(Seeded(5))
    first = Trace()
    crowd(Machine(tape=recording, trace=first), 5)
    again = Trace()
    crowd(Machine(tape=Replay(recording.taken), trace=again), 5)
    assert again.lines() == first.lines()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"clock": "sundial"}, "unknown clock 'sundial'"),
        ({"seed": 1, "tape": Seeded(1)}, "a seed or a tape, not both"),
    ],
)
def test_a_machine_that_cannot_be(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BackendError, match=complaint):
        Machine(**wrong)


@pytest.mark.once
def test_200_domains_in_one_simulation() -> None:
    order = crowd(Machine(), 200)
    assert sorted(order) == list(range(1, 201))


def test_two_simulations_live_side_by_side() -> None:
    """One starts, and runs another whole one from inside."""

    async def outer(xen: Domain) -> list[int]:
        await asyncio.sleep(1)
        inner = crowd(Machine(), 3)
        await asyncio.sleep(1)
        assert asyncio.get_running_loop() is xen.loop
        assert xen.loop.time() == 2
        return inner

    machine = Machine()
    machine.boot("dom0", outer)
    assert sorted(machine.run()["dom0"]) == [1, 2, 3]


def test_a_year_of_virtual_time_passes_at_once() -> None:
    async def main(xen: Domain) -> float:
        await asyncio.sleep(365 * 86_400)
        return xen.loop.time()

    machine = Machine()
    machine.boot("dom0", main)
    assert machine.run() == {"dom0": 365 * 86_400.0}


def test_a_simulation_in_which_nothing_can_happen_says_who_waits_for_what() -> None:
    async def waiting(xen: Domain) -> None:
        with xen.events.alloc_unbound(0) as port:
            await port.wait()

    async def sleeping(xen: Domain) -> None:
        await asyncio.Event().wait()

    machine = Machine()
    machine.boot("dom0", sleeping)
    machine.boot("guest", waiting)
    with pytest.raises(BlockedForever) as caught:
        machine.run()
    said = str(caught.value)
    assert "dom0: 'dom0 main' waits for something that never comes" in said
    assert "guest: 'guest main' waits for port 2 (to domain 0)" in said
    assert "test_simulation.py:" in said


def test_a_half_that_raises_ends_the_others_and_is_named() -> None:
    scenario = Scenario("broken")
    ended: list[str] = []

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("dom0")

    @scenario.domain("guest")
    async def guest(xen: Domain) -> None:
        await asyncio.sleep(1)
        raise LookupError("no such thing")

    with pytest.raises(DomainFailed, match=r"(?s)\[guest\] Traceback.*LookupError: no such thing"):
        scenario.run()
    assert ended == ["dom0"]


def test_a_half_that_will_not_be_cancelled_is_asked_again() -> None:
    async def stubborn(xen: Domain) -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def failing(xen: Domain) -> None:
        raise LookupError

    machine = Machine()
    machine.boot("dom0", stubborn)
    machine.boot("guest", failing)
    with pytest.raises(LookupError):
        machine.run()


def test_tasks_left_running_are_cancelled_in_the_order_of_their_names() -> None:
    ended: list[str] = []

    async def task(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    async def main(xen: Domain) -> None:
        xen.tasks = [  # type: ignore[attr-defined]
            asyncio.create_task(task(name), name=name) for name in ("c", "a", "b", "aa")
        ]
        await asyncio.sleep(0)

    machine = Machine()
    machine.boot("dom0", main)
    machine.run()
    assert ended == ["a", "b", "c", "aa"]


def test_ports_and_grants_left_open_are_named_and_given_back() -> None:
    async def leaky(xen: Domain) -> None:
        xen.events.alloc_unbound(0)
        xen.grants.share(0)

    machine = Machine()
    machine.boot("dom0", leaky)
    with pytest.warns(LeakWarning) as caught:
        machine.run()
    said = [str(warning.message) for warning in caught]
    assert any("<Port 2 to domain 0: fired" in line for line in said)
    assert any("<Grant [8] shared with domain 0>" in line for line in said)
    assert machine.xen.domains == {}


def test_ctrl_c_ends_a_program_that_never_gives_the_processor_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One is enough: who is told to end by a supervisor is told once."""
    monkeypatch.setattr("xen_sim.interrupt.PATIENCE", 0.01)

    async def computes(xen: Domain) -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    machine = Machine()
    machine.boot("dom0", computes)
    with pytest.raises(KeyboardInterrupt):
        machine.run()


def test_ctrl_c_that_was_taken_in_time_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xen_sim.interrupt.PATIENCE", 0.01)

    ended = []

    async def cleans_up(xen: Domain) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(1)
        finally:
            for thread in threading.enumerate():
                if thread.name == "Ctrl-C insists":
                    thread.join()
            ended.append(xen.name)

    machine = Machine()
    machine.boot("dom0", cleans_up)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    assert ended == ["dom0"]


def test_a_machine_that_was_interrupted_is_garbage() -> None:
    """Though what Ctrl-C raised keeps the frames of its domains."""

    async def press(xen: Domain) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(1)

    machine = Machine()
    machine.boot("dom0", press)
    machine.boot("guest", call)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    gone = weakref.ref(machine)
    del machine
    gc.collect()
    assert gone() is None


def test_interrupts_reach_whoever_runs_and_end_everyone() -> None:
    ended: list[str] = []

    async def waiting(xen: Domain) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(xen.name)

    async def interrupted(xen: Domain) -> None:
        await asyncio.sleep(1)
        raise KeyboardInterrupt

    machine = Machine()
    machine.boot("dom0", waiting)
    machine.boot("guest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    assert ended == ["dom0"]


@pytest.mark.parametrize("fails", ["itself", "its pages", "another"])
def test_an_interrupt_is_one_whatever_fails_as_everybody_leaves(fails: str) -> None:
    """Who is interrupted cleans up, which may fail, or make another domain fail before it; or it
    goes with pages that another one has mapped."""
    leaves = False
    refs: list[int] = []

    def strike() -> None:
        raise KeyboardInterrupt

    async def interrupted(xen: Domain) -> None:
        nonlocal leaves
        if fails == "its pages":
            refs.extend(xen.grants.share(1).refs)
        xen.loop.call_later(1, strike)
        try:
            await asyncio.sleep(3600)
        finally:
            leaves = True
            await asyncio.sleep(10)
            if fails == "itself":
                raise OSError("it cannot be cleaned up")

    async def other(xen: Domain) -> None:
        if fails == "its pages":
            await asyncio.sleep(0.5)
            xen.grants.map(0, refs)
        while not (leaves and fails == "another"):
            await asyncio.sleep(1)
        raise OSError("the other end has left")

    machine = Machine()
    machine.boot("dom0", interrupted)
    machine.boot("guest", other)
    with pytest.raises(KeyboardInterrupt):
        machine.run()


# What ends a run is none of the program's errors


async def catches_everything(xen: Domain) -> str:
    """It takes whatever comes for an error of its own."""
    with xen.grants.share(0) as page:
        for _ in range(50):
            try:
                page.memory[0] += 1
                await asyncio.sleep(0)
            except Exception:
                return "swallowed"
    return "ended"


def test_a_tape_that_diverges_is_not_swallowed_by_a_program_that_catches_everything() -> None:
    recording = Recording(Seeded(5))
    machine = Machine(tape=recording, explore=True)
    machine.boot("dom0", catches_everything)
    machine.boot("guest", catches_everything)
    machine.run()
    for spoilt in (20, len(recording.taken) // 2, len(recording.taken) - 5):
        other = list(recording.taken)
        other[spoilt] = other[spoilt]._replace(point="nobody asks this")
        machine = Machine(tape=Replay(other), explore=True)
        machine.boot("dom0", catches_everything)
        machine.boot("guest", catches_everything)
        with pytest.raises(Diverged, match=f"choice {spoilt} was 'nobody asks this'"):
            machine.run()
        assert "swallowed" not in [life.result for life in machine.lives]


def test_another_programs_recording_is_found_out_at_the_first_question_that_differs() -> None:
    recording = Recording(Seeded(5))
    crowd(Machine(tape=recording), 5)
    with pytest.raises(Diverged, match="this is not the run that was recorded"):
        crowd(Machine(tape=Replay(recording.taken)), 6)


def test_a_machine_runs_once() -> None:
    machine = Machine()
    machine.boot("dom0", catches_everything)
    machine.run()
    with pytest.raises(BackendError, match="a machine runs once"):
        machine.run()


def test_what_happens_at_one_instant_happens_in_the_order_that_a_tape_says() -> None:
    """In turn without one."""

    def order(tape: Tape | None) -> list[str]:
        woken: list[str] = []

        def sleeper(name: str) -> Callable[[Domain], Awaitable[None]]:
            async def main(xen: Domain) -> None:
                await asyncio.sleep(1)
                woken.append(name)

            return main

        machine = Machine(tape=tape)
        for name in ("a", "b", "c"):
            machine.boot(name, sleeper(name))
        machine.run()
        return woken

    assert order(None) == ["a", "b", "c"]
    assert order(Schedule(("first at 1000000000 ns", "b timer"))) == ["b", "a", "c"]


def test_steps_on_shared_pages_are_explored_inside_rings_and_vchan() -> None:
    """What a vchan does with its pages is most of what a run is asked about."""

    async def server(xen: Domain) -> bytes:
        guest = await xen.find("guest")
        async with (
            vchan.listen(xen, guest, "data/vchan") as listener,
            await listener.accept() as stream,
        ):
            data = b""
            while len(data) < 20_000:
                data += await stream.receive()
            return data

    async def client(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, "/local/domain/0/data/vchan") as stream:
            await stream.send(bytes(range(250)) * 80)
            await asyncio.sleep(1)

    recording = Recording(Seeded(3))
    machine = Machine(tape=recording, explore=True)
    machine.boot("dom0", server)
    machine.boot("guest", client)
    assert machine.run()["dom0"] == bytes(range(250)) * 80
    memory = [taken for taken in recording.taken if " memory " in taken.point]
    assert len(memory) > 100
