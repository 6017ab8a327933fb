"""What a domain prints, told from what another one prints.

All domains of a simulation share one process and one `sys.stdout`. While a scenario runs, that is
replaced by a stream that asks the machine which domain is running and hands whole lines to the
observer under its name.

What the observer itself raises (the output's reader has gone, say) is not the domain's doing,
though it comes up in the middle of its `print`. It ends the whole run, and is raised at its end.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TextIO

from activations.outcome import Observer
from xen_sim.machine import Machine

XEN = "xen"
"""Whose line it is when no domain runs."""


class DomainLines(io.TextIOBase):
    """A text stream that gathers each domain's lines."""

    def __init__(self, machine: Machine, observer: Observer, beneath: TextIO) -> None:
        self._machine = machine
        self._observer = observer
        self._beneath = beneath
        self._begun: dict[str, str] = {}
        self.refused: BaseException | None = None
        """What the observer raised first."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        running = self._machine.xen.scheduler.current
        name = running.name if running else XEN
        *lines, rest = (self._begun.pop(name, "") + text).split("\n")
        for line in lines:
            self._say(name, line)
        if rest:
            self._begun[name] = rest
        return len(text)

    def finish(self) -> None:
        """Say the lines that were begun and not ended."""
        for name, line in self._begun.items():
            self._say(name, line)
        self._begun.clear()

    def _say(self, name: str, line: str) -> None:
        """The observer may print; what it prints is not a domain's."""
        try:
            with contextlib.redirect_stdout(self._beneath):
                self._observer.line(name, line)
        except BaseException as error:
            self.refused = self.refused or error
            raise


@contextlib.contextmanager
def lines_by_domain(machine: Machine, observer: Observer) -> Iterator[None]:
    """Send what the machine's domains print to the observer, line by line.

    Raises at the end what the observer raised, if it did.
    """
    lines = DomainLines(machine, observer, sys.stdout)
    with contextlib.redirect_stdout(lines):
        try:
            yield
        finally:
            if lines.refused is None:
                lines.finish()
    if lines.refused is not None:
        raise lines.refused
