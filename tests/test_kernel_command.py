"""The command for kernels in C, as docs/kernels.md shows it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from needs import leave_out

from xen_kernel.command import command

if shutil.which("gcc") is None:
    leave_out("kernels in C", "apt install gcc libc6-dev")

pytestmark = pytest.mark.usefixtures("kernel_cache")

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "kernels.md").read_text()
SHOWN = [
    line.removeprefix("python -m xen_kernel ")
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture(autouse=True)
def in_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_of_the_page_says_what_the_page_says(line: str) -> None:
    done = CliRunner().invoke(command, shlex.split(line))
    right = line == "solo5" or "CAREFUL" in line
    assert done.exit_code == (0 if right else 1), done.output
    assert ("exhausted" if right else "found lost wake-up") in done.output
    assert "left out: " in done.output


def test_the_page_shows_the_schedule_that_there_is() -> None:
    done = CliRunner().invoke(command, shlex.split("solo5 --define FAULT=4 --delivery vector"))
    for row in ("read evtchn_upcall_pending  (solo5.c:21)", "hlt  (solo5.c:86)", "✗ lost wake-up"):
        assert row in PAGE
        assert row in done.output


def test_a_token_shows_the_run_again() -> None:
    words = shlex.split("solo5 --define FAULT=4 --delivery vector")
    found = CliRunner().invoke(command, words)
    token = re.search(r"^token: (\S+)$", found.output, re.MULTILINE)
    assert token is not None
    again = CliRunner().invoke(command, [*words, "--token", token[1]])
    assert again.exit_code == 1
    assert again.output.strip() in found.output


def test_what_cannot_be_explored_has_a_status_of_its_own() -> None:
    done = CliRunner().invoke(command, ["/nowhere/evtchn.c"])
    assert done.exit_code == 2
    assert "/nowhere/evtchn.c" in done.output
