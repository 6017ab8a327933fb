"""A Python program run in a forked child of the agent, which has imported already what it imports.

`activations` takes 5 s to start under emulation, most of it for imports; so it takes one. The child
leaves all that the agent is in the midst of, by an exception, up to the agent's own main function;
from there on it is an interpreter that runs the program as its main one. It ends as any does: by
`sys.exit`, by Ctrl-C, with what is registered for the end. Its environment, folder, streams and
session are those of a process that was started, and so is its process id to whoever signals it.

Whatever has a say in how Python starts or what a module does as it is imported, in the environment,
has a process started after all. `ps` shows the agent's command line.
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from xen_lab.inside import half
from xen_lab.inside.jobs import Program

COMMAND = "activations"
SITE = "/lab/command"
"""What the command imports beyond what halves do, in the labs that have it."""
DECISIVE = ("PYTHON", "ACTIVATIONS")
"""How the names of variables begin that are looked at as Python starts, or a module is imported."""


def program(argv: Sequence[str], env: Mapping[str, str]) -> Program | None:
    """What runs this command in a child, or None where that has to be a process started anew."""
    if any(name.startswith(DECISIVE) for name in env):
        return None
    match argv:
        case [name, *words] if name == COMMAND and Path(SITE).is_dir():
            return partial(_run, ["-m", COMMAND], words, _command)
        case ["python3", "-P", file, *words] if not file.startswith("-"):
            return partial(_run, [file], words, partial(_file, file))
    return None


def imported(argv: Sequence[str]) -> Iterator[str]:
    """What it imports first of all, which the agent does better for all that follow."""
    if argv[0] == COMMAND:
        yield f"{COMMAND}.cli"
        yield from (f"{COMMAND}.cli.{word}" for word in argv[1:2])


def reach_command() -> None:
    """Have modules of the command importable, now that those are imported which would use them
    if they found them: structlog, in every half."""
    if SITE not in sys.path:
        sys.path.insert(1 + sys.path.index(os.environ["PYTHONPATH"]), SITE)


def _run(main: Sequence[str], words: Sequence[str], start: Program) -> None:
    gc.freeze()  # no garbage of the program's: the collector would look through it all as it ends
    atexit.register(half.leave_imports, set(sys.modules))
    sys.orig_argv[:] = ["python3", "-P", *main, *words]
    sys.argv[1:] = words
    start()


def _command() -> None:
    os.environ["PYTHONPATH"] += f":{SITE}"
    runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)


def _file(path: str) -> None:
    runpy.run_path(path, run_name="__main__")
