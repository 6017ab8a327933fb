"""A shell in one of the lab's domains, on the user's own terminal."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xen_lab.control import Control, Request
from xen_lab.inside.channel import pack
from xen_lab.lab import Lab

LEAVE = b"\x1d"
"""Ctrl-], as in `xl console`: leaves whatever runs there."""
READ = 4096


def interactive(lab: Lab, domain: str = "dom0", argv: Sequence[str] = ("busybox", "sh")) -> int:
    """Connect the user's terminal to a shell in a domain until it ends; give its exit status.

    Ctrl-] ends it at any time. Where standard input is no terminal, it is read to its end and run
    as a script. Raises `BackendError` if the domain goes meanwhile.
    """
    control, label = lab.reach(domain)
    keyboard = sys.stdin.fileno()
    start = _on_terminal if os.isatty(keyboard) else _as_script
    with _raw(keyboard):
        request = start(control, label, domain, argv)
        try:
            _connect(control, request, keyboard)
        finally:
            if request.answer is None:
                control.ask(label, "end", job=request.number)
    status: int = control.result(request)["status"]
    return status


def _on_terminal(control: Control, label: str, domain: str, argv: Sequence[str]) -> Request:
    size = shutil.get_terminal_size()
    environment = {"TERM": os.environ.get("TERM", "dumb"), "PS1": f"{domain}:$PWD# "}
    return control.ask(
        label,
        "terminal",
        argv=list(argv),
        env=environment,
        rows=size.lines,
        columns=size.columns,
        stream=lambda name, data: _show(data),
    )


def _as_script(control: Control, label: str, domain: str, argv: Sequence[str]) -> Request:
    script = sys.stdin.read()
    return control.ask(
        label,
        "command",
        argv=[*argv, "-c", script],
        env={},
        cwd="/",
        stream=lambda name, data: _show(data),
    )


def _connect(control: Control, request: Request, keyboard: int) -> None:
    """Carry what is typed there, and what is printed here, until the shell ends."""
    sources: list[Control | int] = [control, keyboard] if os.isatty(keyboard) else [control]
    while request.answer is None:
        ready, _, _ = select.select(sources, [], [])
        if control in ready:
            control.read(0)
        if keyboard in ready:
            _type(control, request, os.read(keyboard, READ))


def _type(control: Control, request: Request, typed: bytes) -> None:
    if LEAVE in typed or not typed:
        control.ask(request.domain, "end", job=request.number)
    else:
        control.ask(request.domain, "input", job=request.number, data=pack(typed))


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Every key goes through, Ctrl-C too; the terminal is as before afterwards."""
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSADRAIN)  # and keep what was typed ahead
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
