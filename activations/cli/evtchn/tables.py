"""Ports, round trips and floods for people: tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from activations.abi.event_channel import Status
from activations.cli.output import span
from activations.evtchn.latency import SHOWN
from activations.evtchn.listing import PortState

BAR = 40
"""Characters of the longest bar of a histogram."""
PLAIN_WIDTH = 120
"""Where there is no terminal to say."""
COLOURS = {
    Status.INTERDOMAIN: "green",
    Status.UNBOUND: "yellow",
    Status.VIRQ: "cyan",
    Status.PIRQ: "blue",
    Status.IPI: "dim",
}


def show_ports(
    name: str, ports: Sequence[PortState], names: Mapping[int, str], *, first: bool
) -> None:
    """The ports of a domain of this name."""
    console = _console()
    if not first:
        console.print()
    bits = any(port.pending is not None for port in ports)
    table = _table("port", "state", "vCPU", "other end", *(["pending", "masked"] * bits), "held by")
    for port in ports:
        flags = [_flag(port.pending), _flag(port.masked)] * bits
        table.add_row(
            str(port.port),
            Text(port.state.name.lower(), COLOURS.get(port.state, "")),
            str(port.vcpu),
            _peer(port, names),
            *flags,
            port.holder,
        )
    console.print(Text(f"{name}: {len(ports)} ports", "bold"))
    console.print(table)


def show_holders(programs: Mapping[str, int]) -> None:
    """Which programs have event channels here."""
    said = ", ".join(f"{name} ({number})" for name, number in sorted(programs.items()))
    note(f"programs with ports here, by /dev/xen/evtchn: {said}")


def note(text: str) -> None:
    """A remark below a table."""
    _console().print(Text(text, "dim"))


def _peer(port: PortState, names: Mapping[int, str]) -> str:
    domid = port.remote_domid
    if port.state is Status.INTERDOMAIN and domid is None:
        return "Xen"
    if domid is None or domid not in names:
        return port.peer
    return port.peer.replace(f"domain {domid}", f"{names[domid]} ({domid})", 1)


def _flag(bit: bool | None) -> str:
    return "" if bit is None else "yes" if bit else "·"


# Pings and floods


def show_trips(data: Mapping[str, Any], peer: str) -> None:
    """Round trips (`Trips.as_data`): what came back, and how long it took."""
    console = _console()
    counts = f"{data['sent']:,} round trips to {peer}: {data['returned']:,} returned"
    others = f", {data['lost']:,} lost, {data['coalesced']:,} coalesced"
    console.print(Text.assemble((counts, "bold"), others))
    found = data["latency_ns"]
    if not found:
        return
    shares = [f"p{share:g}" for share in SHOWN]
    table = _table("least", "mean", *shares, "most", right=True)
    table.add_row(*(span(found[key]) for key in ("min", "mean", *shares, "max")))
    console.print(table)
    console.print(_bars(found["histogram"]))


def _bars(histogram: Sequence[Sequence[int]]) -> RenderableType:
    most = max(number for _, number in histogram)
    table = _table("up to", "trips", "", right=True)
    table.columns[2].justify = "left"
    for bound, number in histogram:
        length = round(number / most * BAR) or (1 if number else 0)
        table.add_row(span(bound), f"{number:,}", Text("█" * length, "green"))
    return table


def show_water(data: Mapping[str, Any], peer: str) -> None:
    """A flood (`Water.as_data`): what was sent, and what came of it."""
    console = _console()
    lost = data["lost"]
    channels = f"{data['channels']} channel" + ("s" if data["channels"] != 1 else "")
    console.print(Text(f"{channels} to {peer}, {span(data['ns'])}", "bold"))
    table = _table("sent", "delivered", "coalesced", "lost", "sent/s", right=True)
    table.add_row(
        f"{data['sent']:,}",
        f"{data['delivered']:,}",
        f"{data['coalesced']:,}",
        Text(f"{lost:,}", "bold red" if lost else "bold green"),
        f"{data['sent'] / max(data['ns'], 1) * 1e9:,.0f}",
    )
    console.print(table)
    if lost:
        note(f"channels whose last event never came: {lost}. A wake-up was lost on each")


def _console() -> Console:
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def _table(*columns: str, right: bool = False) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name, justify="right" if right or name in ("port", "vCPU") else "left")
    return table
