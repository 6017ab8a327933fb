"""`activations demo`: two domains, one port, and everything that could be lost but is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from activations.cli import options
from activations.cli.output import JsonLines, Screen, span
from activations.cli.run import perform
from activations.outcome import Outcome, RunOptions
from activations.scenario import Scenario

SCENARIO = Path(__file__).with_name("demo_scenario.py")

CHAPTERS = {
    "met": "Two domains meet",
    "kept": "An event is kept until somebody waits for it",
    "burst": "Notifies that come faster than they are taken become one event",
    "instant": "An event and a timer at the same instant: both arrive",
    "timeout": "A wait that is given up leaves nothing behind",
    "rounds": "Back and forth",
    "nap": "A long sleep",
}

COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("port", "left"),
    ("notified", "right"),
    ("delivered", "right"),
    ("woken", "right"),
    ("coalesced", "right"),
)
LEGEND = """\
notified   by the other end; delivered by Xen, which makes one event of those that pile up
woken      waits that an event ended; the other waits found theirs kept and never slept
coalesced  events that came on top of one that was kept"""


@click.command(short_help="See it work: two domains, ports, timers.")
@options.backend
@options.as_json
@options.diagnostics
def demo(backend: str, as_json: bool, level: str | None, verbose: int, debug: bool) -> int:
    """Run two domains that notify each other, and show what fired when.

    On the simulator time is virtual: an hour's sleep takes no time. Exit status as for `run`.
    """
    reporter = JsonLines() if as_json else DemoScreen()
    with options.diagnosing(level, verbose, debug):
        return perform(str(SCENARIO), backend, RunOptions(), reporter, debug)


class DemoScreen(Screen):
    """Shows the diaries of the two domains as one story."""

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        if not outcome.failures:
            self._story(outcome.results)
            self._figures(outcome.results)
            outcome = replace(outcome, results={})
        super().ended(scenario, backend, outcome, seconds)

    def _story(self, diaries: dict[str, Any]) -> None:
        moments = [
            {**moment, "domain": domain}
            for domain, diary in diaries.items()
            for moment in diary["moments"]
        ]
        moments.sort(key=lambda moment: (moment["ns"], moment["order"]))
        for chapter, title in CHAPTERS.items():
            self.out.print(Text(f"\n{title}", "bold"))
            for moment in moments:
                if moment["chapter"] == chapter:
                    self.out.print(self._row(moment))

    def _row(self, moment: dict[str, Any]) -> Text:
        domain = moment["domain"]
        return Text.assemble(
            f"{span(moment['ns']):>10}  ",
            (f"{domain:<{self._width}}", self._colours[domain]),
            f"  {moment['text']}",
        )

    def _figures(self, diaries: dict[str, Any]) -> None:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column, justify in COLUMNS:
            table.add_column(column, justify=justify)
        for (domain, diary), other in zip(diaries.items(), reversed(diaries.values()), strict=True):
            name = Text.assemble((domain, self._colours[domain]), f", port {diary['port']}")
            figures = (diary[figure] for figure in ("fired", "woken", "coalesced"))
            table.add_row(name, *map(str, (other["sent"], *figures)))
        self.out.print()
        self.out.print(table)
        self.out.print()
        self.out.print(Text(LEGEND, "dim"))
