"""Faults planted in a copy of the other side: does the comparison see them?

In Xen's C they are planted by rule, at every place where a rule fits, so that nothing of Xen's has
to be quoted: a condition is turned round, a statement left out, an error changed. In the simulator
they are listed, each with what it does wrong. A fault is seen where the comparison ends with a
difference, or where the copy dies or hangs of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import build
from .planted import Planted

STEPS = 200_000
"""How long the comparison looks for a fault."""
TIMEOUT = 120.0
_SEEN, _NOTHING = 1, 0


class Fault(NamedTuple):
    """A change of a source file."""

    name: str
    file: str
    text: str
    """The file's whole text, with the fault in it."""


# In Xen's C


def of_xen(tree: Path) -> Iterator[Fault]:
    """Every fault by rule, in Xen's three files."""
    for file in build.SOURCES:
        text = (tree / "xen/common" / file).read_text()
        for rule, places in _RULES.items():
            for begin, end, new in places(text):
                line = text.count("\n", 0, begin) + 1
                yield Fault(f"{file}:{line}: {rule}", file, text[:begin] + new + text[end:])


Places = Iterator[tuple[int, int, str]]
"""Where something is replaced, and by what."""


def _turned_round(text: str) -> Places:
    for found in re.finditer(r"\bif \( ", text):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        yield found.end(), at - 1, f"!({text[found.end() : at - 1]}) "


def _left_out(text: str) -> Places:
    """Plain statements on a line of their own: assignments and calls, but those that free locks."""
    for found in re.finditer(
        r"^ +((?!return|goto|break)[\w>().*&\[\]-]+( = |\()[^;{}]*;)$", text, re.M
    ):
        if not re.search(r"lock|ASSERT|BUG|printk", found[1]):
            yield found.start(1), found.end(1), ";"


def _another_error(text: str) -> Places:
    for found in re.finditer(r"-E[A-Z]+\b", text):
        yield found.start(), found.end(), "-EXDEV"


_RULES = {
    "a condition turned round": _turned_round,
    "a statement left out": _left_out,
    "another error": _another_error,
}


def xen_is_seen(tree: Path, fault: Fault, folder: Path, steps: int = STEPS) -> bool | None:
    """Whether a fault in Xen's C is; None where it does not compile."""
    folder.mkdir()
    try:
        library = build.compiled(tree, folder, {fault.file: fault.text}, "-O0")
    except subprocess.CalledProcessError:
        return None
    return _seen((*_COMMAND, str(steps), "--against", str(library)))


# In the simulator


def simulator_is_seen(package: Path, fault: Planted, folder: Path, *command: str) -> bool:
    """Whether a fault in a copy of `package` is, by this module and its arguments."""
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / fault.file).read_text()
    there = text.count(fault.old)
    assert there == 1, f"{fault.name}: {fault.file} has it {there} times: {fault.old!r}"
    (copy / fault.file).write_text(text.replace(fault.old, fault.new))
    return _seen(command or (*_COMMAND, str(STEPS), "--against", fault.machine), str(folder))


_COMMAND = ("xen_oracle", "--no-shrinking", "--steps")


def _seen(command: Sequence[str], *path: str) -> bool:
    tests = str(Path(__file__).resolve().parents[1])
    before = os.environ.get("PYTHONPATH")
    places = [*path, tests, *([before] if before else ())]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tests,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return True
    died = done.returncode < 0
    assert died or done.returncode in (_SEEN, _NOTHING), done.stderr
    assert died or "compared" in done.stdout, done.stderr  # it came as far as comparing
    return done.returncode != _NOTHING
