"""`activations explore --kernel`: a kernel's own C, as docs/kernels.md shows it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from support.engines import engines_of, wait_for_engines
from support.lower_halves import need_gcc
from support.pace import patience
from support.pages import blocks
from support.places import DOCS, EXAMPLES, HOME

from activations.cli import main
from xen_kernel import KERNELS, KernelError, Limits, Scenario, build, decide
from xen_kernel.engine import Program
from xen_sim.explore.verdict import EXHAUSTED, OPEN

need_gcc()

pytestmark = [
    pytest.mark.once,
    pytest.mark.usefixtures("kernel_cache", "in_the_tree"),
]

PAGE = DOCS / "kernels.md"
SHOWN = [
    line.removeprefix("activations ")
    for block in blocks(PAGE, "sh")
    for line in block.splitlines()
    if line.startswith("activations explore")
]
SCHEDULE = next(block for block in blocks(PAGE, "") if "✗ lost wake-up" in block)
OWN_SCHEDULE = next(block for block in blocks(PAGE, "") if "unikernel" in block)
FAULTY = "--kernel solo5 --define FAULT=4"
RIGHT_ON_X86 = "linux_2l --define FAULT=6"
BIG = ["--kernel", "solo5", "--spread", "--ports", "2", "--timer"]
"""Too many states for a test."""


@pytest.fixture
def in_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HOME)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_of_the_page_says_what_the_page_says(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    right = line.endswith(("solo5", RIGHT_ON_X86)) or "CAREFUL" in line
    assert main(shlex.split(line)) == (0 if right else 1)
    said = capsys.readouterr()
    assert ("exhausted" if right else "found lost wake-up") in said.err
    assert "left out: " in said.err
    assert ("token: " in said.out) is not right


OWN_HEADERS = (
    "--kernel {0}/events.c --include {0}/include --harness {0}/harness.c --delivery vector"
).format(EXAMPLES / "kernels" / "own_headers")


@pytest.mark.parametrize(
    ("asked", "schedule"),
    [
        pytest.param(f"{FAULTY} --delivery vector", SCHEDULE, id="that comes along"),
        pytest.param(OWN_HEADERS, OWN_SCHEDULE, id="with its own headers"),
    ],
)
def test_the_schedule_that_is_shown_is_the_one_there_is(
    asked: str, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(shlex.split(f"explore {asked}"))
    shown = [line.split("│") for line in schedule.splitlines() if "│" in line]
    said = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]

    def words(cells: list[str]) -> list[str]:
        return [re.sub(r"\s+", " ", cell.partition("…")[0]).strip() for cell in cells]

    assert len(shown) == len(said)
    for there, here in zip(shown, said, strict=True):
        assert all(a.startswith(b) for a, b in zip(words(there), words(here), strict=True))


@pytest.mark.parametrize("delivery", ["vector", "pv"])
def test_a_token_shows_the_run_again_and_knows_its_delivery(
    delivery: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = f"--kernel {'solo5' if delivery == 'vector' else 'mini_os'} --define FAULT=4"
    assert main(shlex.split(f"explore {fault} --delivery {delivery}")) == 1
    found = capsys.readouterr().out
    token = found.rpartition("token: ")[2].strip()
    assert main(shlex.split(f"replay {fault} {token}")) == 1
    assert capsys.readouterr().out.strip() in found
    assert main(shlex.split(f"replay {fault} {token} --ports 2")) == 2
    assert "was found in another program" in capsys.readouterr().err


def test_replay_makes_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    found = decide(Scenario((KERNELS / "solo5.c",), defines=("FAULT=4",))).found[0]
    monkeypatch.setattr(Program, "search", None)
    assert main(shlex.split(f"replay {FAULTY} {found.token}")) == 1


def test_where_what_was_learned_is_forgotten_the_token_shows_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = decide(Scenario((KERNELS / "solo5.c",), defines=("FAULT=4",))).found[0].token
    main(shlex.split(f"replay {FAULTY} {token} --all"))
    before = capsys.readouterr().out
    for kept in build.folder().glob("*.shared"):
        kept.unlink()
    assert main(shlex.split(f"replay {FAULTY} {token} --all")) == 1
    assert capsys.readouterr().out == before


def test_so_it_does_where_what_was_learned_is_not_what_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = decide(Scenario((KERNELS / "solo5.c",), defines=("FAULT=4",))).found[0].token
    for damaged in ("[]", '{"a": 1}', "[1, [2]]", "["):
        for kept in build.folder().glob(f"*{token[-16:]}.shared"):
            kept.write_text(damaged)
        assert main(shlex.split(f"replay {FAULTY} {token}")) == 1, damaged
        assert "lost wake-up" in capsys.readouterr().out


def test_it_may_take_as_long_as_it_takes() -> None:
    assert decide(Scenario((KERNELS / "solo5.c",)), Limits(seconds=inf)).kind == EXHAUSTED
    with pytest.raises(KernelError, match="nan is not a number of seconds"):
        Limits(seconds=nan)


def test_what_was_found_is_written_as_a_page_and_for_perfetto(tmp_path: Path) -> None:
    page, trace = tmp_path / "it.html", tmp_path / "it.pftrace"
    words = ["--html", str(page), "--perfetto", str(trace)]
    assert main(["explore", *shlex.split(FAULTY), *words]) == 1
    assert "solo5.c:86" in page.read_text()
    assert trace.stat().st_size > 500


def test_as_json_there_is_a_verdict_for_each_delivery(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--kernel", "zephyr", "--sends", "1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["verdict"] for line in lines] == ["exhausted"] * 3
    assert [line["program"].split()[2] for line in lines] == ["vector,", "callback,", "pv,"]


def test_files_may_follow_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell's wildcard gives them."""
    other = tmp_path / "other.c"
    other.write_text("int nothing(void) { return 0; }\n")
    assert main(["explore", "--kernel", "solo5", str(other), "--sends", "1"]) == 0
    assert "solo5.c, other.c by pv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("explore --kernel /nowhere/evtchn.c", "cannot read /nowhere/evtchn.c"),
        ("explore --kernel /dev/zero", "cannot read /dev/zero: not a regular file"),
        (
            "explore --kernel windows",
            "'windows' is not a lower half that comes with activations: those are freebsd,",
        ),
        (
            "explore --kernel solo5 --include nowhere",
            "--include nowhere: there is no folder and no header",
        ),
        (f"explore --kernel solo5 --include {'a' * 300}", "there is no folder and no header"),
        ("explore --kernel solo5 --delivery pigeon", "it has: vector, callback, pv"),
        ("explore --kernel solo5 --abi 3l", "Xen has no ABI '3l'; it has: any, 2l, fifo"),
        ("explore --kernel solo5 --abi fifo", "did not ask for the FIFO ABI"),
        ("explore --kernel solo5 --strategy pct", "there is no strategy 'pct' for C"),
        ("explore --kernel solo5 --ports 60", "the engine takes 1 to 6"),
        ("explore --kernel solo5 --guest solo5", "--guest is about programs in Python"),
        ("explore --kernel solo5 --runs 5", "--runs is about programs in Python"),
        ("explore --harness it.c", "--harness is about a kernel's C: name it with --kernel"),
        ("explore one.py two.py", "several are of a kernel, with --kernel"),
        ("explore --kernel solo5 --define ''", "it is NAME or NAME=VALUE"),
        ("explore --kernel solo5 --preemptions 1000", "the engine takes 0 to 200"),
        ("explore --kernel solo5 --memory 99999999", "the engine takes up to 8388608"),
        ("explore --kernel solo5 --memory 32 --jobs 3", "16 for each is the least"),
        (
            "explore --kernel solo5 --strategy reduced --preemptions 2",
            "--preemptions is a strategy of its own",
        ),
        ("replay --kernel solo5 nonsense", "is not a token"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(words)) == 2
    assert said in capsys.readouterr().err


def test_the_abi_may_be_kept_from_a_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """One that does not look what Xen has answered is deaf then."""
    words = ["explore", "--kernel", "linux_fifo", "--sends", "1", "--delivery", "vector", "--abi"]
    assert main([*words, "fifo"]) == 0
    assert main([*words, "2l"]) == 1
    assert "lost wake-up" in capsys.readouterr().out


def test_what_is_missing_of_headers_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = tmp_path / "driver.c"
    driver.write_text("#include <linux/bitops.h>\n")
    assert main(["explore", "--kernel", str(driver)]) == 2
    assert "missing: <linux/bitops.h>. Give their folder" in capsys.readouterr().err
    driver.write_text("void f(void) { set_bit(3, MASK); }\n")
    assert main(["explore", "--kernel", str(driver)]) == 2
    assert "missing: set_bit, MASK. Give their folder" in capsys.readouterr().err


def test_a_function_that_is_not_declared_is_refused_though_another_file_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be taken for one that gives an int, and a pointer would lose its upper half. (gcc up
    to 13 lets that pass unless it is told; what comes later has it as an error.)"""
    driver = tmp_path / "driver.c"
    driver.write_text("void f(void) { this_vcpu(); }\n")
    assert main(["explore", "--kernel", str(driver)]) == 2
    assert "missing: this_vcpu. Give their folder" in capsys.readouterr().err


# A search that does not come to its end


def test_where_time_is_up_it_says_with_how_many_preemptions_it_is_exhausted() -> None:
    scenario = Scenario((KERNELS / "solo5.c",), spread=True, ports=2, timer=True)
    verdict = decide(scenario, Limits(seconds=1))
    assert verdict.kind == OPEN
    assert verdict.bound is not None
    assert "exhausted at" in str(verdict)
    assert any("the time was up" in note for note in verdict.notes)


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "activations", "explore", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)


def test_ctrl_c_ends_a_search_and_says_what_was_covered() -> None:
    decide(Scenario((KERNELS / "solo5.c",), sends=1))  # it is compiled
    with start(*BIG, "--delivery", "vector") as process:
        wait_for_engines(process.pid, 1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=patience(30))
    assert process.returncode == 130, said
    assert "not exhausted" in said
    assert "interrupted" in said


def test_a_ctrl_c_that_comes_as_the_engine_begins_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before it has said that it takes one, and before anybody reads what it says."""

    class Struck(subprocess.Popen[str]):
        def __init__(self, command: list[str], **how: Any) -> None:
            super().__init__(command, **how)
            if "search" in command:
                os.kill(self.pid, signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    scenario = Scenario((KERNELS / "solo5.c",), spread=True, ports=2, timer=True)
    decide(Scenario((KERNELS / "solo5.c",), sends=1))  # it is compiled
    monkeypatch.setattr(subprocess, "Popen", Struck)
    verdict = decide(scenario)
    assert verdict.kind == OPEN
    assert any("interrupted" in note for note in verdict.notes)


def test_an_engine_that_is_killed_for_its_memory_leaves_what_was_covered() -> None:
    decide(Scenario((KERNELS / "solo5.c",), sends=1))
    scenario = Scenario((KERNELS / "solo5.c",), spread=True, ports=2, timer=True)
    killed: list[int] = []

    def live(figures: object, doing: str) -> None:
        if not killed:
            killed.extend(engines_of(os.getpid()))
            os.kill(killed[0], signal.SIGKILL)

    verdict = decide(scenario, Limits(seconds=2), live=live)
    assert verdict.kind == OPEN
    assert verdict.figures.states > 0
    assert any("memory was used up" in note for note in verdict.notes)


def test_no_engine_outlives_who_asked_it() -> None:
    decide(Scenario((KERNELS / "solo5.c",), sends=1))
    with start(*BIG) as process:
        wait_for_engines(process.pid, 1)
        process.kill()
        process.communicate()
    wait_for_engines(process.pid, 0)


def test_what_nobody_has_used_for_a_month_is_removed() -> None:
    decide(Scenario((KERNELS / "zephyr.c",), sends=1))
    old, begun = build.folder() / "old-build.o", build.folder() / "making-what-was-killed"
    old.write_text("")
    begun.mkdir()
    (begun / "before.s").write_text("")
    for each in (old, begun):
        os.utime(each, (time.time() - build.KEPT - 60,) * 2)
    decide(Scenario((KERNELS / "zephyr.c",), sends=1))
    assert not old.exists()
    assert not begun.exists()
