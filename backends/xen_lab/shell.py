"""A shell in one of the lab's domains, on the user's own terminal."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from activations.errors import BackendError
from xen_lab.control import Control, Request
from xen_lab.inside.channel import pack
from xen_lab.lab import Lab

LEAVE = b"\x1d"
"""Ctrl-], as in `xl console`: leaves whatever runs there."""
READ = 4096


def interactive(lab: Lab, domain: str = "dom0", argv: Sequence[str] = ("busybox", "sh")) -> int:
    """Connect the user's terminal to a shell in a domain until it ends; give its exit status.

    Ctrl-] ends it at any time. Where standard input is not a terminal, it is read to its end and
    run as a script. Raises `BackendError` if the domain goes meanwhile.
    """
    control, label = lab.reach(domain)
    if sys.stdin is None:
        raise BackendError("a shell has to have a standard input: a terminal, or a script")
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
    return status if status >= 0 else 128 - status  # by a signal: as shells have it


def _on_terminal(control: Control, label: str, domain: str, argv: Sequence[str]) -> Request:
    rows, columns = _size()
    environment = {"TERM": os.environ.get("TERM", "dumb"), "PS1": f"{domain}:$PWD# "}
    return control.ask(
        label,
        "terminal",
        argv=list(argv),
        env=environment,
        rows=rows,
        columns=columns,
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
    if not os.isatty(keyboard):
        control.wait(lambda: request.answer is not None, None)
        return
    with _resizes() as resized:
        sources: list[Control | int] = [control, keyboard, resized]
        while request.answer is None:
            ready, _, _ = select.select(sources, [], [])
            if control in ready:
                control.read(0)
            if keyboard in ready:
                _type(control, request, os.read(keyboard, READ))
            if resized in ready:
                os.read(resized, READ)
                rows, columns = _size()
                job = request.number
                control.ask(request.domain, "resize", job=job, rows=rows, columns=columns)


def _type(control: Control, request: Request, typed: bytes) -> None:
    if LEAVE in typed or not typed:
        control.ask(request.domain, "end", job=request.number)
    else:
        control.ask(request.domain, "input", job=request.number, data=pack(typed))


def _size() -> tuple[int, int]:
    """Rows and columns of the user's terminal."""
    size = shutil.get_terminal_size()
    return size.lines, size.columns


@contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that becomes readable when the user's terminal has got another size."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGWINCH, lambda *_: os.write(writer, b"."))
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)


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
