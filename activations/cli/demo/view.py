"""The machine room as it runs: to a person, on a terminal or in plain lines, or as JSON."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from time import perf_counter

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from activations.cli.demo import tables
from activations.cli.demo.findings import judge
from activations.cli.demo.state import Room
from activations.cli.output import JsonLines, Screen, write
from activations.demo import Sample
from activations.outcome import Outcome
from activations.scenario import Scenario

REFRESH = 0.1
"""Seconds between two pictures on a terminal."""
PLAIN = 1.0
"""Seconds between two lines that say how far everything is, elsewhere."""
WIDTH = 100
"""Columns, where there is no terminal."""


class View(Screen):
    """For people: what the domains say, and below it a table that lives while they are busy.

    Elsewhere than on a terminal there is a line now and then on stderr, and the table once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room = Room(())
        self._live: Live | None = None
        self._next = 0.0

    def begins(self, scenario: Scenario) -> None:
        super().begins(scenario)
        self._room = Room(scenario.halves)

    def line(self, domain: str, text: str) -> None:
        sample = Sample.of_line(text)
        if sample is None:
            super().line(domain, text)
            return
        now = perf_counter()
        self._room.told(domain, sample, now)
        if now >= self._next:
            self._show()
            self._next = now + (REFRESH if self.out.is_terminal else PLAIN)

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        findings = judge(outcome)
        if self._room.rings():
            self._print(tables.moving(self._room, self._colours, ended=True))
        if findings:
            self._print(tables.found(findings))
        super().ended(scenario, backend, replace(outcome, results={}), seconds)

    def close(self) -> None:
        super().close()
        if self._live is not None:
            self._live.update("")  # of a picture that is higher than the terminal, part would stay
            self._live.stop()
            self._live = None

    def _show(self) -> None:
        """A picture of how things are, in the place of the last one."""
        if not self.out.is_terminal:
            if self._next and (said := tables.progress(self._room)):  # not at the very beginning
                self.err.print(Text(f"... {said}"))
            return
        self._stop_spinner()
        if self._live is None:
            self._live = Live(
                console=self.out,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        picture = tables.moving(self._room, self._colours, ended=False)
        self._live.update(picture, refresh=True)

    def _print(self, table: RenderableType) -> None:
        if self.out.is_terminal:
            self.out.print()
            self.out.print(table)
            return
        plain = Console(file=io.StringIO(), width=WIDTH, color_system=None)
        plain.print()
        plain.print(table)
        assert isinstance(plain.file, io.StringIO)
        lines = plain.file.getvalue().splitlines()
        write("".join(f"{line.rstrip()}\n" for line in lines))


class Lines(JsonLines):
    """For programs: as of any run, with statistics as objects of their own."""

    def line(self, domain: str, text: str) -> None:
        sample = Sample.of_line(text)
        if sample is None:
            super().line(domain, text)
        else:
            self.say("statistics", domain=domain, **asdict(sample))

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        judge(outcome)
        super().ended(scenario, backend, outcome, seconds)
