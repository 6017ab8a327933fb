"""`activations run`: a scenario, from its file to its exit status."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

import click

from activations import scenario
from activations.cli import options
from activations.cli.output import JsonLines, Reporter, Screen
from activations.cli.status import FAILED, INTERRUPTED, NOT_TRIED, WELL
from activations.errors import ActivationsError, ScenarioError
from activations.outcome import RunOptions
from activations.scenario import HeldT, Scenario


@click.command(short_help="Run a scenario.")
@click.argument("target", metavar="FILE[::NAME]", shell_complete=options.complete_file)
@options.backend
@click.option("--as", "only", metavar="DOMAIN", help="Run this domain's half alone (linux).")
@click.option("--seed", type=int, metavar="N", help="Schedule by this seed, not in turn (sim).")
@click.option(
    "--clock",
    type=click.Choice(["virtual", "wall"]),
    help="A clock that jumps over idle time, or the machine's own (sim).  [default: as FILE says]",
)
@click.option(
    "--trace",
    type=options.OUT,
    metavar="OUT",
    help="Write what happened: OUT.html to step through, OUT.pftrace for Perfetto, else a line "
    "of JSON each.",
)
@click.option(
    "--guest",
    metavar="KERNEL",
    help="The event code of guests: solo5, mini-os, linux, linux-fifo, freebsd (sim).",
)
@click.option(
    "--delivery",
    metavar="WAY",
    help="How Xen interrupts them: vector, callback, pv (sim).  [default: vector]",
)
@click.option("--vcpus", type=int, metavar="N", help="vCPUs of each domain (sim).")
@click.option(
    "--record",
    type=options.OUT,
    metavar="OUT",
    help="Note what the domain takes in, for `activations replay` (linux, lab).",
)
@click.option("--top", is_flag=True, help="Let `activations top` see it (sim, linux).")
@options.as_json
@options.diagnostics
def run(
    target: str,
    backend: str,
    as_json: bool,
    level: str | None,
    verbose: int,
    debug: bool,
    **how: Any,
) -> int:
    """Run the scenario in FILE: all of its domains, to their ends.

    Where FILE holds several scenarios, NAME says which. What the domains print is shown under
    their names. Exit status: 0 if all went well, 1 if a domain's half raised, 2 if the scenario
    could not be run at all, 130 if interrupted.
    """
    with options.diagnosing(level, verbose, debug):
        reporter = JsonLines() if as_json else Screen()
        return perform(target, backend, RunOptions(**how), reporter, debug)


def perform(
    target: str, backend: str, how: RunOptions, reporter: Reporter, debug: bool = False
) -> int:
    """Load a scenario, run it, report it; give the exit status."""
    try:
        loaded = load(target)
        reporter.begins(loaded)
        began = time.perf_counter()
        outcome = loaded.outcome(backend, observer=reporter, **how._asdict())
    except ActivationsError as error:
        if debug:
            traceback.print_exception(error)
        reporter.failed(error)
        return NOT_TRIED
    except KeyboardInterrupt:
        reporter.interrupted()
        return INTERRUPTED
    finally:
        reporter.close()
    reporter.ended(loaded, backend, outcome, time.perf_counter() - began)
    return FAILED if outcome.failures else WELL


def load(target: str) -> Scenario:
    """As `scenario.load`, and the error says in which line a broken file broke."""
    return load_one(target, Scenario)


def load_one(target: str, *kinds: type[HeldT]) -> HeldT:
    """The same, for what else a file may hold."""
    try:
        return scenario.load_one(target, *kinds)
    except ScenarioError as error:
        if place := _place(error.__cause__, Path(target.partition("::")[0])):
            raise ScenarioError(f"{error} (at {place})") from error.__cause__
        raise
    except SystemExit:
        raise ScenarioError(
            f"{target} ends the process when it is imported: put what it runs as a script "
            'below `if __name__ == "__main__":`'
        ) from None


def _place(cause: BaseException | None, file: Path) -> str:
    """`FILE:LINE` of the innermost line beside the scenario's that had a part in this."""
    if cause is None:
        return ""
    if isinstance(cause, SyntaxError) and cause.lineno is not None:
        return f"{cause.filename}:{cause.lineno}"
    folder = file.resolve().parent
    for frame in reversed(traceback.extract_tb(cause.__traceback__)):
        if frame.filename[:1] != "<" and folder in Path(frame.filename).resolve().parents:
            return f"{frame.filename}:{frame.lineno}"
    return ""
