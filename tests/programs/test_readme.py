"""What README.md and docs/ show works: code runs, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from support.pages import PAGES, README, all_blocks, blocks, named
from support.places import DOCS, HOME, TESTS

from activations.cli import command, main

pytestmark = pytest.mark.once

FILE = re.compile(
    r"(?<![\w/.~<-])((?:\.ci|activations|backends|changes|docs|examples|tests)/[a-z0-9_/.-]*[a-z0-9_])"
)
"""A path from the root, up to where it says PART or NAME."""
MODULE = re.compile(r"(PYTHONPATH=tests )?python3? -m ([\w.]*\w)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def calls() -> Iterator[list[str]]:
    """Every `activations ...` line that a page shows, as words: once, though it is shown often."""
    seen = set()
    for page in PAGES:
        for line in re.findall(r"^(?:    |\$ )?(activations .*)$", page.read_text(), re.MULTILINE):
            line = line.partition("    ")[0].partition("  #")[0].partition(" | ")[0]
            if line not in seen and line.isascii():
                seen.add(line)
                yield shlex.split(line.removesuffix(" &"))[1:]


def pattern(text: str) -> list[str]:
    """The lines without what differs from run to run: figures, units, and the widths they take."""
    return [
        re.sub(r"[\d.,]+( (bytes|[KMG]iB|.?s)\b)?|─+|\s+", " ", line) for line in text.splitlines()
    ]


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


@pytest.mark.parametrize("code", blocks(DOCS / "simulator.md", "python"))
def test_code_of_the_simulators_page_runs(code: str) -> None:
    for seed in range(20):  # where it names one, any other will do
        exec(PROGRAMS + re.sub(r"seed=\d+", f"seed={seed}", code), {"__name__": "page"})


@pytest.mark.parametrize("code", blocks(DOCS / "views.md", "python"))
def test_code_of_the_page_on_views_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PROGRAMS + code, {"__name__": "page"})
    assert {file.name for file in tmp_path.iterdir()} == {"run.html", "run.pftrace"}


def test_every_block_of_python_in_the_readme_is_a_file_that_is_followed() -> None:
    """By `test_pages.py`."""
    assert all(block.file for block in all_blocks(README) if block.language == "python")


@pytest.mark.parametrize("words", list(calls()), ids=" ".join)
def test_a_command_that_is_shown_exists(words: list[str]) -> None:
    found: click.Command = command
    while isinstance(found, click.Group):
        named = found.get_command(click.Context(found), words.pop(0))
        assert named is not None
        found = named
    known = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_the_demo_prints_what_its_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Line for line, but for the figures."""
    assert main(["demo"]) == 0
    shown = next(block for block in blocks(DOCS / "cli.md", "") if "⇄ alice 3" in block)
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
    found = FILE.findall(page.read_text())
    assert [
        name for name in found if not any((at / name).exists() for at in (HOME, page.parent))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_modules_that_are_run_exist(page: Path) -> None:
    """Those of tests/ where the path is said with them."""
    for ours, name in MODULE.findall(page.read_text()):
        place = TESTS / name.replace(".", "/")
        files = (place.with_name(f"{place.name}.py"), place / "__main__.py")
        assert any(map(Path.exists, files)) if ours else find_spec(name), name
