"""A lab waits as long as its machine needs: so many times longer as it is slower."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import xen_lab
from activations import BackendError
from activations.scenario import Silent, load
from xen_lab import pace
from xen_lab.control import Control
from xen_lab.guests import Pool
from xen_lab.machine import Machine
from xen_lab.pace import Pace, granted


class Clock:
    """Seconds that pass as somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def wait(self, seconds: float | None) -> None:
        assert seconds is not None
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Quiet(Control):
    """A control channel on which nothing comes, but time passes."""

    def __init__(self, clock: Clock, factor: float = 1.0) -> None:
        machine = SimpleNamespace(pid=os.getpid(), console=lambda: "")
        super().__init__(cast("Machine", machine), Pace())
        self.pace.measured(factor, 1.0)
        self.read = clock.wait  # type: ignore[method-assign]

    def _send(self, message: object) -> None:
        pass


@pytest.mark.parametrize(("took", "factor"), [(7, 1), (21, 3), (3, 1)])
def test_the_pace_is_how_many_times_longer_a_piece_of_work_took(took: float, factor: float) -> None:
    measure = Pace()
    measure.measured(took, 7)
    assert measure.factor == factor
    assert measure.patience(10) == 10 * factor


def test_whoever_waits_on_a_slow_lab_waits_longer_by_as_much(clock: Clock) -> None:
    assert not Quiet(clock, factor=2.5).wait(lambda: False, 10)
    assert clock.now == 25


def test_a_limit_that_was_passed_is_told_with_the_pace(clock: Clock) -> None:
    with pytest.raises(BackendError, match=r"no answer to get within 10 s at pace 2\.5;"):
        Quiet(clock, factor=2.5).call("dom0", "get", timeout=10)
    with pytest.raises(BackendError, match=r"no answer to get within 10 s;"):
        Quiet(clock).call("dom0", "get", timeout=10)


@pytest.mark.parametrize("waited", [0, 40])
def test_a_boot_is_given_the_seconds_in_which_there_was_a_processor_for_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, waited: float
) -> None:
    def of_which(pid: int) -> float:
        return clock.now - min(waited, clock.now)

    monkeypatch.setattr("xen_lab.control.granted", of_which)
    assert not Quiet(clock).wait_for_boot(120)
    assert clock.now == 120 + waited


def test_the_clock_of_processor_time_granted_leaves_out_what_a_thread_had_to_wait() -> None:
    core = {min(os.sched_getaffinity(0))}
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", "while True: pass"],
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )
        for _ in range(2)
    ]
    try:
        began, first = time.monotonic(), granted(busy[0].pid)
        while (passed := time.monotonic() - began) - (granted(busy[0].pid) - first) < 0.1:
            assert passed < 60, "two processes took turns on one processor, and neither waited"
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_the_clock_of_a_process_that_is_gone_goes_on(tmp_path: Path) -> None:
    assert granted(2**22 + 1) == pytest.approx(time.monotonic(), abs=10)


class Booting(Pool):
    """Guests that come up after so many seconds."""

    def __init__(self, clock: Clock, control: Control, seconds: float) -> None:
        super().__init__(control, 384, 120, 1)
        self._boot: Callable[[], None] = lambda: clock.wait(seconds)

    def _settled(self, label: str) -> bool:
        self._boot()
        self._control.hellos[label] = {}
        return True


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xen_lab.guests.run", lambda *words, **more: (0, b"1 /dev/pts/0"))
    monkeypatch.setattr(Control, "call", lambda *words, **more: {})


def test_every_making_of_guests_measures_the_pace_anew(clock: Clock, commands: None) -> None:
    control = Quiet(clock)
    slow = Booting(clock, control, pace.GUEST["pvh"] * 4)
    slow.assign({"one": "pvh"}, print)
    assert control.pace.factor == 4
    slow.assign({"one": "pvh"}, print)  # it is there: nothing is measured
    assert control.pace.factor == 4
    Booting(clock, control, pace.GUEST["pv"]).assign({"two": "pv", "three": "pv"}, print)
    assert control.pace.factor == 1


HALVES = """
import os
from activations import Scenario

scenario = Scenario("pace")

@scenario.domain("dom0")
async def dom0(xen):
    return float(os.environ["XEN_LAB_PACE"])

@scenario.domain("guest", kind="pv")
async def guest(xen):
    return float(os.environ["XEN_LAB_PACE"])
"""


@pytest.mark.lab
def test_halves_and_commands_in_the_lab_find_its_pace(lab: xen_lab.Lab, tmp_path: Path) -> None:
    file = tmp_path / "pace.py"
    file.write_text(HALVES)
    outcome = lab.run(load(str(file)), Silent())
    assert lab.pace >= 1
    assert outcome.results == dict.fromkeys(("dom0", "guest"), pytest.approx(lab.pace, abs=0.01))
    said = lab.shell("dom0", ["sh", "-c", "echo $XEN_LAB_PACE"])[1]
    assert float(said) == pytest.approx(lab.pace, abs=0.01)
    assert lab.patience(10) == 10 * lab.pace
