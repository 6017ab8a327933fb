"""`activations evtchn watch`: say when Xen raises a virtual interrupt."""

from __future__ import annotations

import time

import click

import activations
from activations.abi.event_channel import NR_VIRQS, Virq
from activations.cli import options
from activations.cli.ending import status_of
from activations.cli.evtchn.common import HERE, backend, run_scenario, said_where_else
from activations.cli.output import JsonLines, Reporter, Screen, write
from activations.domain import Domain
from activations.errors import DomainFailed, XenError
from activations.evtchn.listing import virq_name
from activations.evtchn.scenarios import watched

NAMES = ", ".join(each.name.lower() for each in Virq)


def virq(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """The number of a VIRQ that is named."""
    plain = value.lower().removeprefix("virq_")
    if plain.isdecimal() and int(plain) < NR_VIRQS:
        return int(plain)
    try:
        return int(Virq[plain.upper()])
    except KeyError:
        raise click.BadParameter(
            f"{value!r} is not a VIRQ: it is a number below {NR_VIRQS}, or one of {NAMES}"
        ) from None


@click.command(short_help="Say when Xen raises a virtual interrupt.")
@click.argument("number", metavar="VIRQ", callback=virq)
@click.option(
    "-n", "--count", type=options.Whole(min=1), metavar="N", help="End after so many events."
)
@backend
@options.as_json
def watch(number: int, count: int | None, backend: str, as_json: bool) -> int:
    """Bind VIRQ in this domain, and print a line each time Xen raises it, until Ctrl-C.

    VIRQ is a number or a name: con_ring, say, which Xen raises as it prints on its console, or
    dom_exc, as a domain ends. A global one goes to dom0, and to one program there. With --backend
    lab it is dom0 of a lab booted for it that watches.
    """
    reporter: Reporter = JsonLines() if as_json else Screen()

    def raised(event: int) -> None:
        if isinstance(reporter, JsonLines):
            reporter.say("raised", virq=number, events=event, time=time.time())
        else:
            write(f"{time.strftime('%H:%M:%S')}  {virq_name(number)}  {event}\n")

    async def main(xen: Domain) -> None:
        await watched(xen, number, count, reporter.progress, raised)

    def work() -> None:
        if backend == HERE:
            with said_where_else():
                activations.run(main, backend=backend)
        else:
            run_scenario(f"watches({number}, {count})", backend, reporter)

    return status_of(work, reporter, failures=(XenError, DomainFailed))
