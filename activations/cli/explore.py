"""`activations explore` and `replay`: search a program's ways, and see one of them again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from activations import registry
from activations.cli import kernels, options, recordings
from activations.cli.ending import status_of
from activations.cli.options import F
from activations.cli.output import JsonLines, Screen
from activations.cli.run import load_one
from activations.cli.status import FAILED, INTERRUPTED, NOT_TRIED, WELL

PREEMPTIONS = "preemptions"
"""The strategy that --preemptions stands for."""
LOWER_HALF = ("ports", "sends")
"""Options of what is explored without a FILE."""
EVERY = 0.1
"""Seconds between two looks of the line that is live."""


def _list_faults(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """`--faults list`: every fault there is, and nothing else is done."""
    if value != "list":
        return value
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("--faults", "", "what happens"):
        table.add_column(column)
    for kind, name, safe, what in registry.find("sim").explorer.faults():
        table.add_row(f"{kind}:{name}", "safe" if safe else "by name", what)
    Screen(spinner=False).out.print(table)
    context.exit()


def _subject(command: F) -> F:
    """What is explored, on what, and where what is found is written."""
    for option in (
        kernels.options,
        click.option(
            "--perfetto",
            type=options.OUT,
            metavar="OUT",
            help="Write what was found, for Perfetto.",
        ),
        click.option(
            "--html",
            type=options.OUT,
            metavar="OUT",
            help="Write what was found, as a page to step through.",
        ),
        click.option(
            "--sends",
            type=options.Whole(1),
            default=2,
            metavar="N",
            show_default=True,
            help="Without FILE: how many events each port gets.",
        ),
        click.option(
            "--ports",
            type=options.Whole(1, 64),
            default=1,
            metavar="N",
            show_default=True,
            help="Without FILE: of how many ports.",
        ),
        click.option("--vcpus", type=int, metavar="N", help="vCPUs of each domain."),
        click.option(
            "--late",
            type=options.Whole(0),
            default=0,
            metavar="K",
            help="Upcalls may come up to K steps late.",
        ),
        click.option(
            "--delivery", metavar="WAY", help="vector (the default), callback, pv; for C all."
        ),
        click.option(
            "--faults",
            metavar="KINDS",
            callback=_list_faults,
            help="What may go wrong: events,timers, safe, all, none; list says what there is.",
        ),
        click.option("--guest", metavar="KERNEL", help="The event code of guests: see run."),
    ):
        command = option(command)
    return command


@click.command(short_help="Try a program's interleavings until one breaks a promise.")
@click.argument("files", metavar="[FILE[::NAME]]", nargs=-1, shell_complete=options.complete_file)
@click.option("--runs", type=options.Whole(1), metavar="N", help="End after so many runs.")
@click.option(
    "--seconds",
    type=options.Seconds(0),
    default=60.0,
    show_default=True,
    help="End after so long.",
)
@click.option("--strategy", metavar="NAME", help="How to search: portfolio, if nothing is said.")
@click.option(
    "--preemptions",
    type=options.Whole(0),
    metavar="K",
    help="Every course with at most K preemptions.",
)
@click.option(
    "-j",
    "--jobs",
    type=options.Whole(1),
    default=1,
    metavar="N",
    show_default=True,
    help="Search in N processes.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    show_default=True,
    help="What the search does by chance, once more the same.",
)
@_subject
@options.as_json
def explore(
    files: tuple[str, ...],
    as_json: bool,
    runs: int | None,
    seconds: float,
    strategy: str | None,
    preemptions: int | None,
    jobs: int,
    seed: int,
    html: Path | None,
    perfetto: Path | None,
    **subject: Any,
) -> int:
    """Run the scenario in FILE in one interleaving after the other, until one of them breaks a
    promise: a wake-up is lost, domains wait for each other, a program raises. Without FILE, the
    event code of a kernel is explored by itself (--guest, --ports, --sends); with --kernel, the C
    of one, as it stands in its tree. Where FILE holds several scenarios, NAME says which; one that
    is called as FILE is needs no NAME.

    What is found is shrunk to the fewest deviations from the ordinary course and shown with a token
    for `activations replay`. Exit status: 0 if nothing was found, 1 if something was, 2 if nothing
    could be explored or its workers died, 130 if interrupted before anything was found.
    """
    if preemptions is not None and strategy not in (None, PREEMPTIONS):
        raise click.UsageError(
            f"--preemptions is a strategy of its own: leave out --strategy {strategy}"
        )
    effort: dict[str, Any] = {
        "runs": runs,
        "seconds": seconds,
        "limit": preemptions,
        "jobs": jobs,
        "seed": seed,
    }
    if strategy or preemptions is not None:
        effort["strategy"] = strategy if preemptions is None else PREEMPTIONS
    screen = JsonLines() if as_json else Screen(spinner=False)

    def search() -> int:
        explorer, subjects = _asked(subject, files, effort)
        found_in: list[Any] = []
        for each in subjects:
            with Line(seconds, None if as_json else Screen(spinner=False).err) as line:
                verdict = explorer.explore(each, effort, line)
            _show(verdict, as_json)
            if verdict.found and not found_in:
                explorer.write(each, verdict.found[0], html, perfetto)
            found_in += verdict.found
            if verdict.interrupted:
                return FAILED if found_in else INTERRUPTED
            if verdict.broken_off and not found_in:
                return NOT_TRIED
        return FAILED if found_in else WELL

    return status_of(search, screen)


@click.command(short_help="See again what explore found, or run --record noted.")
@click.argument("words", metavar="[FILE[::NAME]] TOKEN|RECORDING", nargs=-1, required=True)
@click.option("--all", "whole", is_flag=True, help="Every step, not those that matter alone.")
@_subject
@options.as_json
def replay(
    words: tuple[str, ...],
    whole: bool,
    as_json: bool,
    html: Path | None,
    perfetto: Path | None,
    **subject: Any,
) -> int:
    """Take the course that TOKEN says through the scenario in FILE, and show it step by step.

    Exit status: 1 if the promise is broken again, 0 if it is not, 2 if the token does not fit: the
    program is another one by now, and the first choice that differs is named.

    A RECORDING (run --record) is a file: its half is run again with what it took in on a real Xen.
    Exit status: as of run; 2 if it does not fit, and the first difference is named.
    """
    screen = JsonLines() if as_json else Screen(spinner=False)
    if recordings.chosen(words):
        return status_of(lambda: recordings.replay(words, screen), screen)

    def again() -> int:
        explorer, (asked, *_) = _asked(subject, words[:-1])
        verdict = explorer.replay(asked, words[-1])
        _show(verdict, as_json, replayed=True, whole=whole)
        for found in verdict.found:
            explorer.write(asked, found, html, perfetto)
        return FAILED if verdict.found else WELL

    return status_of(again, screen)


def _asked(
    subject: dict[str, Any], files: Sequence[str], effort: dict[str, Any] | None = None
) -> tuple[Any, list[dict[str, Any]]]:
    """The explorer, and what it explores, one after the other."""
    if kernel := kernels.chosen(subject, files, effort):
        return kernel
    for name in LOWER_HALF if files else ():
        if click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--{name} is about a kernel's event code by itself: leave it out, or leave out "
                f"{files[0]}"
            )
    if len(files) > 1:
        raise click.UsageError("one FILE, or none: several are of a kernel, with --kernel")
    explorer = registry.find("sim").explorer
    subject["of"] = load_one(files[0], *explorer.kinds) if files else None
    return explorer, [subject]


class Line:
    """A line on a terminal that says how far a search is; elsewhere nothing."""

    def __init__(self, seconds: float, console: Console | None) -> None:
        self._seconds = seconds
        self._last = perf_counter()
        self._coverage = 0
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(
                console=console,
                auto_refresh=False,  # no thread: workers are forked meanwhile
                transient=True,
                redirect_stdout=False,  # what domains print goes elsewhere
                redirect_stderr=False,
            )

    def __enter__(self) -> Line:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, figures: Any, doing: str) -> None:
        now = perf_counter()
        if self._live is None or now - self._last < EVERY:
            return
        self._last = now
        new, self._coverage = figures.coverage - self._coverage, figures.coverage
        what, many = ("states", figures.states) if figures.states else ("runs", figures.runs)
        rate = many / figures.seconds if figures.seconds else 0
        left = max(self._seconds - figures.seconds, 0)
        said = (
            f"{doing}: {many:,} {what}, {rate:,.0f}/s, {left:.0f} s left, "
            f"{figures.depth} choices deep"
        )
        if figures.coverage:
            said += f", {figures.coverage:,} ways to come between (+{new})"
        self._live.update(Text(said, no_wrap=True, overflow="ellipsis"), refresh=True)


def _show(verdict: Any, as_json: bool, *, replayed: bool = False, whole: bool = False) -> None:
    if as_json:
        JsonLines().say("verdict", **verdict.facts())
        return
    screen = Screen(spinner=False)
    for found in verdict.found:
        if found.moments:
            width = shutil.get_terminal_size().columns // max(len(found.actors), 1) - 4
            screen.out.print(Text(found.table(max(width, 30), whole=whole)))
            screen.out.print()
        screen.out.print(Text(str(found.finding), "bold"))
        if not replayed:
            screen.out.print(Text(found.how()))
            screen.out.print(Text.assemble("token: ", (found.token, "bold")))
    if not replayed:
        screen.err.print(Text(str(verdict), "dim"))
        for note in verdict.notes:
            screen.err.print(Text(note, "dim"))
        screen.err.print(Text(f"left out: {'; '.join(verdict.leaves_out)}", "dim"))
    elif not verdict.found:
        screen.out.print("nothing is broken on this course any more")
