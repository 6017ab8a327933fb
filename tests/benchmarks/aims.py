"""What the simulator aims at, and what it reaches: in Python alone and with the accelerator, in the
same rounds of one run, each with its control. A few minutes; the page's table is this one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import scale
import simulator
import vchan_send
from checkout import Checkout
from measure import Figure, Table

TABLES: dict[str, Table | Callable[[], list[Figure]]] = {
    **simulator.TABLES,
    **scale.TABLES,
    **vchan_send.TABLES,
}


@dataclass(frozen=True, slots=True)
class Aim:
    """One line: what a contender of another table comes to, and what it was to come to."""

    what: str
    of: str
    """The table's title."""
    contender: str
    to: str = ""
    """What it is a multiple of: stock asyncio, or another one of ours in the same build. Where this
    is empty, its time counts."""
    in_python: str = ""
    accelerated: str = ""

    def table(self) -> Table:
        """The contenders that this takes, and no others."""
        table = TABLES[self.of]
        assert isinstance(table, Table)
        ours = {name: run for name, run in table.ours.items() if name in (self.contender, self.to)}
        others = {name: run for name, run in table.others.items() if name == self.to}
        return replace(table, ours=ours, others=others)


AIMS = (
    Aim(
        "round trip of two domains, of asyncio's on Event",
        of="Ping-pong",
        contender="two simulated domains",
        to="asyncio, two tasks on Event",
        in_python="1.4",
        accelerated="0.8",
    ),
    Aim(
        "fan-out to 4,096 with their making, of asyncio's",
        of="Fan-out to 4,096 waiters, with their making",
        contender="port",
        to="asyncio Event",
        in_python="0.92",
        accelerated="0.75",
    ),
    Aim(
        "fan-out to 4,096 from fire to last, of asyncio's",
        of="Fan-out to 4,096 waiters",
        contender="port",
        to="asyncio Event",
        accelerated="0.31",
    ),
    Aim(
        "a virtual sleep, µs",
        of="Sleep",
        contender="virtual clock",
        in_python="5.5",
        accelerated="4",
    ),
    Aim(
        "an event's demux at 4,096 ports, of that at 64",
        of="An event, demux and unmask under an event loop",
        contender="4,096 ports",
        to="64 ports",
        in_python="flat",
        accelerated="flat",
    ),
    Aim(
        "an event's demux at 131,072 ports, of that at 64",
        of="An event, demux and unmask",
        contender="FIFO, 131,072 ports",
        to="FIFO, 64 ports",
        in_python="flat",
        accelerated="flat",
    ),
    Aim(
        "fan-in of 1,000 guests, µs each",
        of="Fan-in, one domain to all and back",
        contender="1,000 guests",
        in_python="8",
        accelerated="8",
    ),
    Aim(
        "round trip of 1,000 domains, of two",
        of="Ping-pong of many domains",
        contender="1,000 domains",
        to="2 domains",
        in_python="1.3",
        accelerated="1.3",
    ),
    Aim(
        "a vchan's send of 4 KiB, µs",
        of="vchan between two simulated domains, a send of 4 KiB that fits",
        contender="send",
        in_python="1.5",
        accelerated="1.5",
    ),
)


def show(builds: Mapping[str, Checkout]) -> None:
    """The table, in Markdown, line by line as it is measured."""
    if len(builds) < 2:
        raise SystemExit("the aims are of both builds: activations doctor says what is missing")
    columns = ["in Python alone", "(control)", "aim", "with the accelerator", "(control)", "aim"]
    print(f"\n| Aims | {' | '.join(columns)} |\n|{'---|' * 7}")
    for aim in AIMS:
        figures = {figure.name: figure for figure in aim.table().measure(builds, {})}
        in_python, accelerated = (_cells(aim, build, figures) for build in builds)
        cells = [aim.what, *in_python, aim.in_python, *accelerated, aim.accelerated]
        print(f"| {' | '.join(cells)} |", flush=True)


def _cells(aim: Aim, build: str, figures: Mapping[str, Figure]) -> tuple[str, str]:
    """What it came to in this build, and its control."""
    found = figures[aim.contender + build]
    base = figures.get(aim.to + build)
    value = found.ratio / base.ratio if base else found.ratio if aim.to else found.value
    assert found.control is not None
    return f"{value:.2f}", f"{found.control:.2f}"
