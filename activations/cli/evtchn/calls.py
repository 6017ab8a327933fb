"""`activations evtchn ping`, `flood`, and `answer`, which is the other half of both."""

from __future__ import annotations

import asyncio
from typing import Any

import click

import activations
from activations.cli import options
from activations.cli.domains import NoSuchDomain
from activations.cli.ending import status_of
from activations.cli.evtchn import tables
from activations.cli.evtchn.common import (
    HERE,
    backend,
    number_of,
    run_scenario,
    said_where_else,
)
from activations.cli.options import F
from activations.cli.output import JsonLines, Reporter, Screen
from activations.cli.status import FAILED, WELL
from activations.domain import Domain
from activations.errors import DomainFailed, XenError
from activations.evtchn import halves
from activations.evtchn.errors import HalfMissing
from activations.evtchn.flood import PORTS, SECONDS, SENDERS, Flood
from activations.evtchn.ping import COUNT, TIMEOUT, Ping
from activations.evtchn.scenarios import Work, perform, statistics_of

FAILURES = (HalfMissing, XenError, DomainFailed, NoSuchDomain)


def wait(command: F) -> F:
    """`--wait`."""
    return click.option(
        "-w",
        "--wait",
        type=options.Seconds(min=0, min_open=True),
        metavar="SECONDS",
        help="Wait no longer than this for the other half.  [default: for ever]",
    )(command)


@click.command(short_help="How long an event takes, there and back.")
@click.argument("domain", required=False)
@click.option(
    "-n",
    "--count",
    type=options.Whole(min=0),
    default=COUNT,
    show_default=True,
    metavar="N",
    help="Round trips; 0: until Ctrl-C.",
)
@click.option(
    "-i",
    "--interval",
    type=options.Seconds(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Between two trips.  [default: none]",
)
@click.option(
    "--timeout",
    type=options.Seconds(min=0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="A trip that takes longer is lost.",
)
@wait
@backend
@options.as_json
def ping(
    domain: str | None,
    count: int,
    interval: float,
    timeout: float,
    wait: float | None,
    backend: str,
    as_json: bool,
) -> int:
    """Send events through a channel and have them sent back, one at a time: to DOMAIN, which runs
    `activations evtchn answer`, or without it to this domain itself.

    On sim and lab the other half is run too, in a guest called DOMAIN. Times are of the real
    clock, and those of the program's own work too. Ctrl-C shows what there is so far.
    """
    work = Ping(count or None, interval, timeout)
    return call(work, domain, wait, backend, as_json)


@click.command(short_help="Many channels, many senders: what was sent, and that nothing is lost.")
@click.argument("domain", required=False)
@click.option(
    "-p",
    "--ports",
    type=options.Whole(1, 900),
    default=PORTS,
    show_default=True,
    metavar="N",
    help="Channels; in one domain each takes two ports.",
)
@click.option(
    "-s",
    "--senders",
    type=options.Whole(1, 10_000),
    default=SENDERS,
    show_default=True,
    metavar="N",
    help="Tasks that send, each through all channels in turn.",
)
@click.option(
    "-n", "--count", type=options.Whole(min=1), metavar="N", help="Events, and no time limit."
)
@click.option(
    "-t",
    "--seconds",
    type=options.Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help=f"For so long.  [default: {SECONDS:g}, without --count]",
)
@wait
@backend
@options.as_json
def flood(
    domain: str | None,
    ports: int,
    senders: int,
    count: int | None,
    seconds: float | None,
    wait: float | None,
    backend: str,
    as_json: bool,
) -> int:
    """Send as many events as there is time for: to DOMAIN, which runs `activations evtchn answer`,
    or without it to this domain itself.

    Xen keeps one bit a port, so an event on top of a pending one is coalesced with it. But after
    the last event of a channel the other half looks once more, or a wake-up was lost: the exit
    status is 1 then.
    """
    if count is None and seconds is None:
        seconds = SECONDS
    return call(Flood(ports, senders, count, seconds), domain, wait, backend, as_json)


@click.command(short_help="Be the other half of a ping or a flood.")
@click.argument("domain")
@click.option("--once", is_flag=True, help="End after the first, with its statistics.")
@backend
@options.as_json
def answer(domain: str, once: bool, backend: str, as_json: bool) -> int:
    """Answer the pings and floods of DOMAIN, one after the other, until Ctrl-C."""
    reporter: Reporter = JsonLines() if as_json else Screen()

    async def main(xen: Domain) -> None:
        domid = await number_of(xen, domain)
        while True:
            reporter.progress(f"waits for a ping or a flood of {domain}")
            done = await halves.answer(xen, domid)
            if isinstance(reporter, JsonLines):
                reporter.say("answered", **done)
            else:
                reporter.progress(
                    f"{done['channels']} channels: {done['fired']:,} events came, "
                    f"{done['answered']:,} went back"
                )
            if once:
                return

    def work() -> None:
        with said_where_else():
            activations.run(main, backend=backend, clock="wall")

    return status_of(work, reporter, failures=FAILURES)


def call(work: Work, domain: str | None, wait: float | None, backend: str, as_json: bool) -> int:
    """Do it and show what came of it; give the exit status."""
    reporter: Reporter = JsonLines() if as_json else Screen()

    def run() -> int:
        if backend == HERE:
            return _here(work, domain, wait, reporter)
        data = run_scenario(f"calls({work!r}, {domain!r})", backend, reporter)
        return _show(data, data.pop("peer"), reporter)

    return status_of(run, reporter, failures=FAILURES)


def _here(work: Work, domain: str | None, wait: float | None, reporter: Reporter) -> int:
    """In the domain this process runs in. Cut short, it shows what there is so far."""
    statistics = statistics_of(work)
    peer = domain or "this domain itself"

    async def main(xen: Domain) -> None:
        domid = None if domain is None else await number_of(xen, domain)
        if domid is not None:
            reporter.progress(f"waits for `activations evtchn answer {xen.domid}` in {domain}")
        await perform(xen, domid, work, statistics, wait)

    with said_where_else():
        try:
            activations.run(main, backend=HERE, clock="wall")
        except (KeyboardInterrupt, asyncio.CancelledError):
            reporter.close()
            if statistics.sent:
                _show(statistics.as_data(), peer, reporter)
            raise
    return _show(statistics.as_data(), peer, reporter)


def _show(data: dict[str, Any], peer: str, reporter: Reporter) -> int:
    """Show what came of it; the exit status."""
    reporter.close()
    trips = "latency_ns" in data
    ok = not data["lost"]
    if isinstance(reporter, JsonLines):
        reporter.say("pinged" if trips else "flooded", peer=peer, ok=ok, **data)
    elif trips:
        tables.show_trips(data, peer)
    else:
        tables.show_water(data, peer)
    return WELL if ok else FAILED
