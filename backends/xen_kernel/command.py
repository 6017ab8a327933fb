"""The command: what is asked, and the verdict as text.

Exit status: 0 if nothing was found, 1 if something was, 2 if it could not be explored as it is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, cast

import click

from activations.errors import ActivationsError
from xen_kernel.engine import Limits
from xen_kernel.scenario import DELIVERIES, KERNELS, Delivery, Scenario
from xen_kernel.verdicts import decide, replay
from xen_sim.explore.verdict import Found, Verdict

FOUND, NOT_TRIED = 1, 2
OPTION = click.Path(path_type=Path)


@click.command()
@click.argument("kernel", nargs=-1, required=True, metavar="FILE...")
@click.option("--include", multiple=True, type=OPTION, help="A folder of headers, or a header.")
@click.option("--harness", type=OPTION, help="Who takes part, see explore.h.")
@click.option("--define", multiple=True, metavar="NAME[=VALUE]", help="As gcc's -D.")
@click.option(
    "--delivery", type=click.Choice(["all", *DELIVERIES]), default="all", show_default=True
)
@click.option("--vcpus", default=1, show_default=True)
@click.option("--ports", default=1, show_default=True)
@click.option("--sends", default=2, show_default=True, help="Events that each peer sends.")
@click.option("--spread", is_flag=True, help="Each port in a selector's word of its own.")
@click.option("--timer", is_flag=True, help="The kernel sets timers, and they fire.")
@click.option("--buffers", is_flag=True, help="Others see stores late, as x86 allows it.")
@click.option("--preemptions", type=click.IntRange(0), metavar="K", help="With at most K.")
@click.option("--seconds", default=600.0, show_default=True, help="Of processor time.")
@click.option("--memory", default=3072, show_default=True, help="In MiB.")
@click.option("--token", help="See one run again.")
def command(
    kernel: tuple[str, ...],
    include: tuple[Path, ...],
    harness: Path | None,
    define: tuple[str, ...],
    delivery: str,
    preemptions: int | None,
    seconds: float,
    memory: int,
    token: str | None,
    **asked: Any,
) -> None:
    """Search every order of a kernel's event code with Xen's, for what it can lose.

    FILE is the kernel's own C, or the name of one that comes along: solo5, mini_os, linux_2l,
    linux_fifo, freebsd, zephyr, openbsd.
    """
    if harness is not None:
        asked["harness"] = harness
    limits = Limits(seconds, memory << 20)
    ways = cast(list[Delivery], list(DELIVERIES) if delivery == "all" else [delivery])
    status = 0
    try:
        for way in ways:
            scenario = Scenario(
                tuple(map(_file, kernel)), include, defines=define, delivery=way, **asked
            )
            if token is not None:
                _show(replay(scenario, token, limits))
                status = FOUND
                break
            verdict = decide(scenario, limits, preemptions)
            _tell(verdict)
            status = max(status, FOUND if verdict.found else 0)
    except ActivationsError as error:
        click.echo(str(error), err=True)
        status = NOT_TRIED
    sys.exit(status)


def _file(name: str) -> Path:
    """A file, or a lower half of this project's own by its name."""
    own = KERNELS / f"{name}.c"
    return own if "/" not in name and own.exists() else Path(name)


def _tell(verdict: Verdict) -> None:
    click.echo(str(verdict))
    for found in verdict.found:
        _show(found)
        click.echo(f"token: {found.token}")
    for note in verdict.notes:
        click.echo(note)
    click.echo(f"left out: {'; '.join(verdict.leaves_out)}")
    click.echo()


def _show(found: Found) -> None:
    width = shutil.get_terminal_size().columns // max(len(found.actors), 1) - 4
    click.echo(f"\n{found.table(max(width, 40))}\n\n{found.finding}")
