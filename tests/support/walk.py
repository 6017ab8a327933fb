"""A page followed word for word, in a folder of its own, as its reader would.

    a title              the block is that file, or goes below what is in it (`more`)
    diff, with a title   what is changed in that file
    console              each `$ command` is run, and says what stands below it, line by line:
                         figures and widths may differ, and `...` is anything

Other blocks are left to other tests: `sh` is what cannot be run here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from support.pages import Block, all_blocks

INSTALL = "pip install -e ."


def walk(page: Path, folder: Path) -> None:
    """Raises `AssertionError` at the first step that does not go as the page says."""
    for block in all_blocks(page):
        if block.language == "diff" and block.file:
            change(folder / block.file, block.text)
        elif block.file:
            put(folder / block.file, block)
        elif block.language == "console":
            console(block.text, folder)


def put(path: Path, block: Block) -> None:
    assert path.exists() == block.more, f"{path.name} is there already, or is to be gone on with"
    before = path.read_text() + "\n\n" if block.more else ""
    path.write_text(before + block.text)


def change(path: Path, difference: str) -> None:
    """Do what a difference says, wherever its lines stand."""
    lines = difference.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has not these lines once:\n{before}"
    path.write_text(text.replace(before, after))


def console(text: str, folder: Path) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = part.splitlines()
        said = run(command, folder)
        rest = iter([flat(line) for line in said.splitlines()])
        for line in expected:
            found = any(pattern(line).search(each) for each in rest)
            assert found, f"$ {command}\n{said}\nshould say, behind what is above it: {line}"


def flat(line: str) -> str:
    """Without what differs from run to run, and from a terminal to a pipe."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]*\d", "0", line.replace("│", "|"))).strip()


def pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(flat(part)) for part in line.split("...")))


def run(command: str, folder: Path) -> str:
    """What a command says, on either of its streams. Programs are those beside this Python."""
    if command == INSTALL:
        install(folder)
        return ""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {"PATH": path, "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **home},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def install(folder: Path) -> None:
    """What an editable installation leaves, without asking an index for what builds it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    with (info / "entry_points.txt").open("w") as file:
        for group, points in project["entry-points"].items():
            print(
                f"[{group}]",
                *(f"{name} = {it}" for name, it in points.items()),
                sep="\n",
                file=file,
            )
