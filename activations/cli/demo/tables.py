"""The machine room in tables: rings, event channels, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from activations.cli.demo.findings import Finding
from activations.cli.demo.state import End, Rate, Room
from activations.cli.output import size

BAR = 16
"""Characters."""
LEGEND = """\
fired      events that Xen delivered, at the one end · at the other
woken      waits that they ended; other waits found an event kept, and went on
coalesced  events that came on top of one that was still kept
Rates are per second of real time."""

Colours = Mapping[str, str]
Column = tuple[str, Literal["left", "right"]]


def moving(room: Room, colours: Colours, *, ended: bool) -> RenderableType:
    """What moves: rings, and the event channels that ring for them. Rates are of late, or, once
    it has `ended`, overall."""
    return Group(
        _rings(room, colours, ended), Text(), _channels(room, colours, ended), Text(LEGEND, "dim")
    )


def found(findings: Iterable[Finding]) -> Table:
    """The summary."""
    table = _table(("what", "left"), ("how much", "left"), ("how fast", "left"))
    table.add_column("verified", overflow="fold")
    for finding in findings:
        mark = ("✓ ", "bold green") if finding.ok else ("✗ ", "bold red")
        name = Text.assemble(mark, (finding.what, "bold"))
        table.add_row(name, finding.amount, finding.speed, finding.why)
    return table


def progress(room: Room) -> str:
    """How far everything is that is not done, in a line; empty when all is."""
    return ", ".join(
        f"{ring.use} {ring.share:.0%} ({_rate(rate, ended=False)})"
        for _, ring, rate in room.rings()
        if ring.share < 1
    )


def _rings(room: Room, colours: Colours, ended: bool) -> Table:
    table = _table(("ring", "left"), ("done", "left"))
    for column in ("requests", "in flight", "bytes", "rate"):
        table.add_column(column, justify="right")
    for domain, ring, rate in room.rings():
        table.add_row(
            Text(ring.use, colours.get(domain, "")),
            ProgressBar(total=1.0, completed=ring.share, width=BAR),
            f"{ring.requests:,}",
            f"{ring.in_flight}",
            size(ring.bytes),
            _rate(rate, ended),
        )
    return table


def _channels(room: Room, colours: Colours, ended: bool) -> Table:
    table = _table(("channel", "left"), ("ports", "left"))
    for column in ("fired", "woken", "coalesced", "events/s"):
        table.add_column(column, justify="right")
    for one, other, rates in room.channels():
        ends = (one.port, other.port)
        table.add_row(
            other.port.use,
            Text.assemble(_end(one, colours), " ⇄ ", _end(other, colours)),
            " · ".join(f"{port.fired:,}" for port in ends),
            " · ".join(f"{port.woken:,}" for port in ends),
            " · ".join(f"{port.coalesced:,}" for port in ends),
            f"{sum(rate.overall if ended else rate.lately for rate in rates):,.0f}",
        )
    return table


def _end(end: End, colours: Colours) -> Text:
    return Text(f"{end.domain} {end.port.number}", colours.get(end.domain, ""))


def _rate(rate: Rate, ended: bool) -> str:
    return f"{size(rate.overall if ended else rate.lately)}/s"


def _table(*columns: Column) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name, justify in columns:
        table.add_column(name, justify=justify)
    return table
