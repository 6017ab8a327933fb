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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from support.places import TESTS

import xen_sim

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


SIMULATOR = Path(xen_sim.__file__).parent


def unseen(faults: Sequence[Planted], folder: Path, *command: str) -> list[str]:
    """Those of the faults that this module, with its arguments, does not see: they are looked for
    two at a time, each in a copy of the simulator and in a process of its own."""

    def seen(number: int) -> bool:
        return _simulator_is_seen(faults[number], folder / str(number), command)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(seen, range(len(faults))))
    return [fault.name for fault, found in zip(faults, results, strict=True) if not found]


def _simulator_is_seen(fault: Planted, folder: Path, command: Sequence[str]) -> bool:
    copy = folder / SIMULATOR.name
    shutil.copytree(SIMULATOR, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / fault.file).read_text()
    there = text.count(fault.old)
    assert there == 1, f"{fault.name}: {fault.file} has it {there} times: {fault.old!r}"
    (copy / fault.file).write_text(text.replace(fault.old, fault.new))
    return _seen(command or (*_COMMAND, str(STEPS), "--against", fault.machine), str(folder))


_COMMAND = ("xen_oracle", "--no-shrinking", "--steps")


def _seen(command: Sequence[str], *path: str) -> bool:
    before = os.environ.get("PYTHONPATH")
    places = [*path, str(TESTS), *([before] if before else ())]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=TESTS,
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
