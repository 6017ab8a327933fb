"""What README.md and docs/ show works: code runs, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.pages import PAGES, README, blocks, named
from support.places import HOME

from activations import scenario
from activations.cli import command, main

pytestmark = pytest.mark.once

LINK = re.compile(r"\]\(([^)\s]+)\)")


def calls() -> Iterator[list[str]]:
    """Every `activations ...` line of the README and of docs/cli.md, as words."""
    for page in (README, HOME / "docs" / "cli.md"):
        for text in (*blocks(page, "sh"), *blocks(page, "")):
            for line in text.splitlines():
                line = line.removeprefix("$ ").partition("    ")[0].partition("  #")[0]
                if line.startswith("activations "):
                    yield shlex.split(line)[1:]


def pattern(text: str) -> list[str]:
    """The lines without what differs from run to run: figures, units, and the widths they take."""
    return [
        re.sub(r"[\d.,]+( (bytes|[KMG]iB|.?s)\b)?|─+|\s+", " ", line) for line in text.splitlines()
    ]


@pytest.mark.parametrize("code", [b for b in blocks(README, "python") if "def test_" in b])
def test_a_test_of_the_readme_passes(code: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(code)
    options = ["-q", "-W", "error", "-p", "no:asyncio"]  # which warns where it is not configured
    pytest_on_it = [sys.executable, "-m", "pytest", *options, "test_it.py"]
    subprocess.run(pytest_on_it, cwd=tmp_path, check=True)


@pytest.mark.parametrize("code", [b for b in blocks(README, "python") if "Scenario(" in b])
def test_a_scenario_of_the_readme_runs(code: str, tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text(code)
    scenario.load(str(tmp_path / "it.py")).run()


PROGRAMS = """
async def server(xen):
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
        await port.wait()


async def client(xen):
    number = int(await xen.store.wait_for("data/port"))
    with xen.events.bind_interdomain(0, number) as port:
        port.notify()
"""
"""What these pages leave to their reader."""


@pytest.mark.parametrize("code", blocks(HOME / "docs" / "simulator.md", "python"))
def test_code_of_the_simulators_page_runs(code: str) -> None:
    for seed in range(20):  # where it names one, any other will do
        exec(PROGRAMS + re.sub(r"seed=\d+", f"seed={seed}", code), {"__name__": "page"})


@pytest.mark.parametrize("code", blocks(HOME / "docs" / "views.md", "python"))
def test_code_of_the_page_on_views_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PROGRAMS + code, {"__name__": "page"})
    assert {file.name for file in tmp_path.iterdir()} == {"run.html", "run.pftrace"}


def test_every_block_of_python_in_the_readme_is_one_of_these() -> None:
    python = blocks(README, "python")
    assert len(python) == 2
    assert all("def test_" in block or "Scenario(" in block for block in python)


@pytest.mark.parametrize("words", list(calls()), ids=" ".join)
def test_a_command_that_is_shown_exists(words: list[str]) -> None:
    found: click.Command = command
    while isinstance(found, click.Group):
        named = found.get_command(click.Context(found), words.pop(0))
        assert named is not None
        found = named
    known = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_the_demo_prints_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Line for line, but for the figures."""
    assert main(["demo"]) == 0
    shown = next(block for block in blocks(README, "") if "⇄" in block)
    printed = iter(pattern(capsys.readouterr().out))
    assert all(line in printed for line in pattern(shown)), "in this order"


def test_two_commands_set_everything_up() -> None:
    """And the second one is there, and can be run."""
    first, second = blocks(README, "sh")[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert (HOME / second.strip()).stat().st_mode & 0o100


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if not link.startswith("https://"):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:activations|backends|docs|examples|tests)/[\w/.]*)`", page.read_text()
    )
    for name in named:
        assert (HOME / name).exists(), name
