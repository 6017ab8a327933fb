"""The museum: the explorer finds each exhibit by itself, and nothing in its cure; and its page says
what the explorer says."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import museum_page
import pytest
from museum_page import EXHIBITS, IN_C, JUNE_2020, LARGE, MUSEUM, PAGE, PREEMPTIONS
from support.lower_halves import need_gcc

from activations.cli import main
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED

AGAIN = "the page is not what the explorer says: PYTHONPATH=tests python -m museum_page"
RUNS = 200
"""In which nothing is found in a cure: twice what finding any of them takes."""

pytestmark = pytest.mark.once


SMALL = {
    *("flag_never_cleared", "handler_clears_the_flag", "interval_for_absolute_time"),
    *("masked_port_delivered", "notified_too_early", "pending_cleared_after_the_handler"),
    *("poll_of_128_ports", "port_left_unmasked"),
}
"""Those whose cures have the fewest orders that differ."""
UNREDUCED = {
    "upcall_for_nothing",  # what comes late is asked of nobody's step
    *("hlt_with_interrupts_on", "pending_word_swapped", "waking_inside_the_scan"),
    *("unmask_of_an_unmasked_port", "unmask_tests_the_mask", "unmask_without_a_look"),
}
"""Those whose cures have more than a test has time for, and one."""


def row_of(name: str) -> list[str]:
    """What the page's table says of an exhibit: runs by strategy, and its cure's."""
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| [{name}]"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_every_file_of_the_museum_is_shown() -> None:
    assert {path.stem for path in MUSEUM.iterdir() if path.suffix == ".py"} == set(EXHIBITS)
    assert len(EXHIBITS) == len(set(EXHIBITS)) >= 12


@pytest.mark.parametrize("name", EXHIBITS)
def test_an_exhibit_is_found_unaided_and_the_page_shows_it(name: str) -> None:
    began = time.process_time()
    found = museum_page.found(name)
    took = time.process_time() - began
    assert found is not None
    assert took < (0.5 if name in JUNE_2020 else 5)
    assert museum_page.section(name) in PAGE.read_text(), AGAIN
    assert row_of(name)[0] == f"{found.runs:,}", AGAIN


@pytest.mark.parametrize("name", EXHIBITS)
def test_nothing_is_found_in_its_cure(name: str) -> None:
    verdict = explore(museum_page.cured(name), Effort(runs=RUNS, seconds=None))
    assert not verdict.found, verdict.found[0].table()


@pytest.mark.long
@pytest.mark.parametrize("name", EXHIBITS)
def test_its_cure_is_exhausted_and_the_figures_are_the_pages(name: str) -> None:
    verdict = museum_page.held(name)
    assert verdict.kind in (BOUNDED, EXHAUSTED)
    if verdict.kind == BOUNDED:
        assert verdict.bound == (1 if name in LARGE else PREEMPTIONS)
    assert museum_page.row(name, verdict) in PAGE.read_text(), AGAIN


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in SMALL else pytest.mark.long)
        for name in EXHIBITS
        if name not in UNREDUCED
    ],
)
def test_its_cure_is_exhausted_with_no_bound(name: str) -> None:
    effort = Effort(runs=5_000, seconds=None, strategy="reduced")
    assert explore(museum_page.cured(name), effort).kind == EXHAUSTED


@pytest.mark.usefixtures("kernel_cache")
def test_the_missing_fence_takes_store_buffers_and_its_cure_is_exhausted() -> None:
    need_gcc()
    assert museum_page.fence(cure=False).found
    assert museum_page.fence(cure=True).kind == EXHAUSTED
    assert museum_page.section_in_c() in PAGE.read_text(), AGAIN


def test_the_page_holds_each_exhibit_once_and_nothing_else() -> None:
    titles = [museum_page.told(name).title for name in EXHIBITS]
    shown = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    assert shown == [*titles, museum_page.told_in_c().title]


def test_the_commands_of_an_exhibit_find_it_and_nothing_in_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """FILE alone is the one that is called as the file is."""
    monkeypatch.chdir(tmp_path)
    file = str(MUSEUM / "final_check_left_out.py")
    assert main(["explore", file]) == 1
    token = capsys.readouterr().out.rpartition("token: ")[2].strip()
    assert main(["replay", file, token]) == 1
    assert "deadlock" in capsys.readouterr().out
    assert main(["explore", f"{file}::cured", "--runs", "20"]) == 0
    assert main(["replay", f"{file}::cured", token]) == 2
    capsys.readouterr()
    assert main(["explore", file, "--guest", "linux"]) == 2
    assert "says itself what it runs on: leave out --guest" in capsys.readouterr().err
    assert main(["explore", f"{file}::other"]) == 2
    assert "it has: final_check_left_out, cured" in capsys.readouterr().err


def test_an_exhibit_can_be_sent_to_a_worker_that_has_not_loaded_its_file() -> None:
    """As those of an executor on another machine have not."""
    sent = pickle.dumps(museum_page.engine("notified_too_early"))
    there = "import pickle, sys; print(pickle.load(sys.stdin.buffer).name)"
    came = subprocess.run(
        [sys.executable, "-c", there], input=sent, capture_output=True, check=True
    )
    assert came.stdout == b"notified_too_early\n"


def test_the_c_exhibit_says_its_own_command() -> None:
    said = (MUSEUM / f"{IN_C}.c").read_text()
    assert f"activations explore --kernel solo5 --harness examples/museum/{IN_C}.c" in said
