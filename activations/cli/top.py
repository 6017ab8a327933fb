"""`activations top`: the ports of programs that run, and what goes through them now.

Programs that were asked to (`activations.telling`) say how it stands to each program that connects.
Two answers give the rates between them.
"""

from __future__ import annotations

import json
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from activations import telling, watched
from activations.cli import options
from activations.cli.ending import status_of
from activations.cli.output import JsonLines, Screen, span
from activations.cli.status import WELL
from activations.errors import ActivationsError

COUNTED = ("fired", "sent", "woken", "coalesced")
"""What rates are made of."""
SHORT = COUNTED[:2]
"""Those that there is room for in every terminal."""
WIDE = 112
"""Columns that all of them take."""
PATIENCE = 2.0
"""Seconds for a program to answer."""
FRAME = 4
"""Lines of a table that are not ports: what is above, its title, its head, the line below."""

Told = dict[str, Any]
"""What a program says of itself: see `activations.telling`."""


@click.command(short_help="Ports, rates and latencies of programs that run.")
@click.argument("pids", metavar="[PID]...", type=options.Whole(1), nargs=-1)
@click.option(
    "-i",
    "--interval",
    type=options.Seconds(0.05, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Show what is in one interval, and end.")
@options.as_json
def top(pids: tuple[int, ...], interval: float, once: bool, as_json: bool) -> int:
    """Show the ports of programs that run: how often each fires, who waits, how long it takes.

    Of programs of this user that were started by `activations run --top`, or with ACTIVATIONS_TOP=1
    in their environment; of those with these process ids, if there are any.

    Ends with the last of these programs, or by Ctrl-C. Exit status: 0; 2 if there is no such
    program.
    """
    reporter = JsonLines() if as_json else Screen(spinner=False)

    def look() -> int:
        last = answers(pids)
        if not last:
            raise ActivationsError(_nobody(pids))
        with suppress(KeyboardInterrupt), _said() if as_json else _drawn(once) as show:
            while True:
                show.wait(interval)
                if not (now := answers(pids)):
                    return WELL
                show([Seen(told, last.get(pid)) for pid, told in now.items()])
                if once:
                    return WELL
                last = now
        return WELL

    return status_of(look, reporter)


def _nobody(pids: Sequence[int]) -> str:
    which = f"no program {' or '.join(map(str, pids))}" if pids else "no program of this user"
    return (
        f"{which} lets itself be seen: start it by `activations run --top`, or with "
        f"{watched.ASKED}=1 in its environment"
    )


# Asking


def answers(pids: Sequence[int]) -> dict[int, Told]:
    """What programs of this user say of themselves, by process id; these alone, if there are any.

    Sockets whose programs are gone are removed: these were killed.
    """
    found: dict[int, Told] = {}
    for path in sorted(telling.folder().glob("*.sock")):
        if pids and path.stem not in map(str, pids):
            continue
        with suppress(OSError, ValueError):  # it has just ended, or does not answer
            told = _ask(path)
            if told["version"] == telling.VERSION:
                found[told["pid"]] = told
    return found


def _ask(path: Path) -> Told:
    with socket.socket(socket.AF_UNIX) as stream, telling.short(path) as name:
        stream.settimeout(PATIENCE)
        try:
            stream.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            raise
        pieces = []
        while piece := stream.recv(1 << 16):
            pieces.append(piece)
    told: Told = json.loads(b"".join(pieces))
    return told


class Seen(NamedTuple):
    """What a program says, and what it said one look before."""

    now: Told
    before: Told | None

    @property
    def seconds(self) -> float:
        return (self.now["ns"] - self.before["ns"]) / 1e9 if self.before else 0.0

    def domains(self) -> list[Told]:
        """Its domains. Their ports have rates, and the busiest come first."""
        before = {
            _which(domain, port): port
            for domain in (self.before or {"domains": []})["domains"]
            for port in domain["ports"]
        }
        return [
            {**domain, "ports": sorted(self._rated(domain, before), key=_busiest_first)}
            for domain in self.now["domains"]
        ]

    def _rated(self, domain: Told, before: dict[Any, Told]) -> Iterator[Told]:
        for port in domain["ports"]:
            last = before.get(_which(domain, port), {})
            more = {what: max(port[what] - last.get(what, 0), 0) for what in COUNTED}
            rates = {
                f"{what}_per_s": round(more[what] / self.seconds, 3) if self.seconds else 0.0
                for what in COUNTED
            }
            yield {**port, **rates}


def _which(domain: Told, port: Told) -> tuple[Any, ...]:
    """A number that was bound anew is another port, where that can be told."""
    return domain["domid"], domain["name"], domain["generation"], port["port"], port["remote"]


def _busiest_first(port: Told) -> tuple[float, int]:
    return -port["fired_per_s"], port["port"]


# Showing


class Shown:
    """Where looks are shown."""

    def __init__(self, show: Callable[[list[Seen]], None]) -> None:
        self._show = show

    def __call__(self, seen: list[Seen]) -> None:
        self._show(seen)

    def wait(self, seconds: float) -> None:
        select.select([], [], [], seconds)


class Drawn(Shown):
    """A table on a terminal, drawn anew when that gets another size."""

    def __init__(self, live: Live, signals: socket.socket) -> None:
        super().__init__(self._draw)
        self._live = live
        self._signals = signals
        self._last: list[Seen] = []

    def _draw(self, seen: list[Seen]) -> None:
        self._last = seen
        console = self._live.console
        counted = COUNTED if console.width >= WIDE else SHORT
        self._live.update(_tables(seen, counted, console.height), refresh=True)

    def wait(self, seconds: float) -> None:
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            heard = select.select([self._signals], [], [], left)[0]
            if heard and signal.SIGWINCH in self._signals.recv(4096):
                self._draw(self._last)


@contextmanager
def _said() -> Iterator[Shown]:
    lines = JsonLines()

    def say(seen: list[Seen]) -> None:
        for each in seen:
            lines.say(
                "top",
                pid=each.now["pid"],
                program=each.now["program"],
                seconds=round(each.seconds, 6),
                domains=each.domains(),
            )

    yield Shown(say)


@contextmanager
def _drawn(once: bool) -> Iterator[Shown]:
    """On a terminal a table that is drawn over and over; elsewhere one below the other."""
    console = Screen(spinner=False).out
    if once or not console.is_terminal:
        yield Shown(lambda seen: _print(console, seen))
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    resized = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield Drawn(live, ours)
    finally:
        signal.signal(signal.SIGWINCH, resized)
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()


def _print(console: Console, seen: list[Seen]) -> None:
    if not console.is_terminal:
        console.width = WIDE  # no line is too long for a pipe
    for each in seen:
        console.print(_title(each), overflow="fold")
        console.print(_table(each, COUNTED, None), soft_wrap=False)


def _tables(seen: list[Seen], counted: Sequence[str], height: int) -> RenderableType:
    """What fits into so many lines: of each program as much."""
    room = max(height // max(len(seen), 1) - FRAME, 1)
    parts: list[RenderableType] = []
    for each in seen:
        parts += [_title(each), _table(each, counted, room)]
    return Group(*parts)


def _title(seen: Seen) -> Text:
    said = ", ".join(
        f"{domain['name']} ({domain['domid']}) {domain['ready']} ready, {domain['asleep']} asleep"
        for domain in seen.now["domains"]
    )
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(f"{seen.now['pid']} ", "bold")
    return title.append(seen.now["program"], "bold").append(f": {said}", "dim")


def _table(seen: Seen, counted: Sequence[str], room: int | None) -> Table:
    """`room` is how many ports there is room for."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("domain", "port", "to"):
        table.add_column(head, no_wrap=True, overflow="ellipsis")
    for head in (*(f"{what}/s" for what in counted), "waiters", "wake", "most", "answer", "most"):
        table.add_column(head, justify="right", no_wrap=True)
    rows = [(domain["name"], port) for domain in seen.domains() for port in domain["ports"]]
    rows.sort(key=lambda row: -row[1]["fired_per_s"])
    for name, port in rows[:room]:
        table.add_row(name, str(port["port"]), port["remote"], *_figures(port, counted))
    if room is not None and len(rows) > room:
        table.caption = f"{len(rows) - room} quieter ports more"
    return table


def _figures(port: Told, counted: Sequence[str]) -> Iterator[str]:
    for what in counted:
        yield f"{port[f'{what}_per_s']:,.0f}"
    yield str(port["waiters"])
    for times in (port["wake"], port["answer"]):
        yield from map(span, times) if times else ("", "")
