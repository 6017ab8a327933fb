"""One half of a scenario, run in a forked child of the agent."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

from xen_lab.inside.channel import unpack

WARM = (
    *("re", "typing", "dataclasses", "logging", "ssl", "asyncio", "email.message"),
    *("importlib.metadata", "traceback", "activations.scenario", "sortedcontainers", "structlog"),
    *("activations", "xen_linux", "activations.drivers", "anyio"),
)
"""What halves import, in an order that makes many small steps of it."""
PLACE = Path("/run/lab/scenarios")
LEARNED = Path("/run/lab/imports")
"""Where a half, or a program, leaves the names of what it imported beyond that."""


def warm_up(names: Iterable[str] = WARM) -> Iterator[None]:
    """Import what halves import before they are forked, a step at a time."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # a half that needs it will say so
                importlib.import_module(name)
            yield


def learned() -> list[str]:
    """What halves that have ended imported beyond what was there: the next will too."""
    try:
        names = LEARNED.read_text().split()
    except FileNotFoundError:
        return []
    LEARNED.unlink()
    return names


def lay_out(digest: str, files: str | None, target: str) -> Path:
    """Write a scenario's files, packed as JSON of path to text; None: they are there. The one with
    the target is compiled, here and now, for every half that is forked."""
    folder = PLACE / digest
    if files is not None:
        from activations.scenario import compile_ahead

        for path, text in json.loads(unpack(files)).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        with contextlib.suppress(Exception):  # a half will say what is wrong with it
            compile_ahead(folder / target.partition("::")[0])
    return folder


class Notes:
    """A trace that goes to a descriptor as it is made, so that nothing of it is lost with who is
    killed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, ns: int, domain: str, what: str, **details: Any) -> None:
        from activations.trace import line

        event = {"ns": ns, "domain": domain, "what": what, **details}
        _write(self._descriptor, line(event).encode())


def recorder(descriptor: int, name: str, scenario: str, file: str) -> Any:
    """What records a half to this descriptor."""
    from activations.recording.session import Recorder

    return Recorder(partial(_write, descriptor), scenario, file, name)


def run(folder: Path, target: str, name: str, result: int, how: Mapping[str, Any]) -> int:
    """Load the scenario, run one half of it, write how it ended to `result` as JSON. `how` are
    options of its loop: who is told what happens.

    That is `{"value": ...}`, `{"repr": "..."}` for a value JSON cannot say, or
    `{"failure": "the traceback"}`. Gives the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    os.chdir(folder)
    before = set(sys.modules)
    try:
        ending = _describe(_main(target, name, how))
    except BaseException as error:  # SystemExit and Ctrl-C end a half as well, and are told
        ending = {"failure": _told(error)}
    leave_imports(before)
    sys.stdout.flush()
    sys.stderr.flush()
    _write(result, json.dumps(ending).encode())
    return 1 if "failure" in ending else 0


def _main(target: str, name: str, how: Mapping[str, Any]) -> Any:
    from activations.running import run_in
    from activations.scenario import load
    from xen_linux import backend

    sys.dont_write_bytecode = False  # the same files run again, and compiling is slow in here
    sys.path.insert(0, str(Path(target.partition("::")[0]).parent.resolve()))
    half = load(target).half(name)
    recorder = how.get("recorder")
    with recorder.running() if recorder else contextlib.nullcontext():
        return run_in(lambda: backend.new_event_loop(**how), half.main)


def leave_imports(before: Set[str]) -> None:
    """Tell the agent what was imported, what others need first; but not what lies beside the
    scenario: beside another one may lie another module by that name."""
    with LEARNED.open("a") as file:
        for name in reversed(sys.modules):
            origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None)
            if name not in before and origin and not Path(origin).absolute().is_relative_to(PLACE):
                print(name, file=file)


def _describe(value: Any) -> dict[str, Any]:
    try:
        return {"value": json.loads(json.dumps(value))}
    except (TypeError, ValueError):
        return {"repr": repr(value)}


def _told(error: BaseException) -> str:
    from activations.running import told

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # the way from here to the half is not news
    return told(error.with_traceback(trace))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
