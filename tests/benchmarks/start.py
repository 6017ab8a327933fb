"""Whole processes: what a program waits for before its first line, beside asyncio's own part.

Time is the processor's, of the process that is started and of no other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from checkout import Checkout
from measure import Table

PROCESS_IN_MS = 1000
"""A table's figures are microseconds for one of `per`: so they are milliseconds."""
_NO_CACHE = "PYTHONDONTWRITEBYTECODE"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pingpong.py"
COMMAND = f"""
from activations.cli import main
main(["run", {str(EXAMPLE)!r}])
"""


def process(source: str, paths: tuple[str, ...] = ()) -> float:
    """Seconds for an interpreter that runs this and ends. It may keep what it compiled."""
    surroundings = {name: value for name, value in os.environ.items() if name != _NO_CACHE}
    surroundings["PYTHONPATH"] = os.pathsep.join(paths)
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", source], env=surroundings, check=True, capture_output=True
    )
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(tree: Checkout) -> float:
    return process("import activations", tree.paths)


def command(tree: Checkout) -> float:
    return process(COMMAND, tree.paths)


TABLES = {
    "Start of a process": Table(
        PROCESS_IN_MS,
        "ms",
        {"import activations": imports, "activations run examples/pingpong.py": command},
        {"import asyncio": partial(process, "import asyncio"), "nothing": partial(process, "")},
    )
}
