"""`activations evtchn ls`: what every port of a domain is bound to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import click

import activations
from activations import registry
from activations.abi.event_channel import Status
from activations.cli import options
from activations.cli.domains import NoSuchDomain, names_in
from activations.cli.ending import status_of
from activations.cli.evtchn import tables
from activations.cli.evtchn.common import (
    LAB,
    SIM,
    backend,
    number_of,
    run_scenario,
    said_where_else,
)
from activations.cli.output import JsonLines, Reporter, Screen, span, write
from activations.cli.run import load
from activations.domain import Domain
from activations.errors import BackendError, ScenarioError, XenError
from activations.evtchn.listing import PortState
from activations.evtchn.scenarios import CALLER, listed
from activations.offers import ListsPorts, ShowsPorts
from activations.outcome import Observer, RunOptions


@click.command(short_help="What every port of a domain is bound to.")
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1)
@click.option(
    "--bits",
    is_flag=True,
    help="Show which ports are pending and masked. A real Xen prints that on its console for it, "
    "for all domains (the debug key e); dom0 alone can ask.",
)
@click.option(
    "--run",
    "target",
    metavar="FILE[::NAME]",
    shell_complete=options.complete_file,
    help="The ports of this scenario's domains, run on a simulated Xen.",
)
@click.option(
    "--at",
    type=options.Seconds(min=0),
    metavar="SECONDS",
    help="With --run: at this time of the simulation's clock.  [default: when most ports are open]",
)
@backend
@options.as_json
def ls(
    domains: tuple[str, ...],
    bits: bool,
    target: str | None,
    at: float | None,
    backend: str,
    as_json: bool,
) -> int:
    """Show the ports of each DOMAIN, by default of this one: what each is bound to, which vCPU is
    told, what it is for, and who serves it as far as xenstore says so.

    dom0 may ask for any domain, a guest for itself. A simulated Xen shows also which task waits for
    a port, and where. With --backend lab DOMAIN is a guest that is made for it.
    """
    reporter = JsonLines() if as_json else Screen()
    if target is None and at is not None:
        raise click.UsageError("--at is a time of a scenario's run: name it with --run FILE")
    if target is None and backend == SIM:
        raise click.UsageError("name the scenario whose domains are to be shown: --run FILE")

    def work() -> None:
        shown = Shown(as_json)
        if target is not None:
            of_scenario(target, at, domains, reporter, shown)
        elif backend == LAB:
            of_lab(domains or (CALLER,), bits, reporter, shown)
        else:
            with said_where_else():
                activations.run(
                    lambda xen: of_domains(xen, domains, bits, backend, shown), backend=backend
                )

    return status_of(work, reporter, failures=(XenError, NoSuchDomain))


class Shown:
    """Shows the ports of one domain after the other."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._first = True

    def domain(self, name: str, ports: Sequence[PortState], names: Mapping[int, str]) -> None:
        """The ports of a domain of this name; `names` are those of the others, by domid."""
        if self._as_json:
            for port in ports:
                write(json.dumps({"event": "port", "domain": name, **port.as_data()}) + "\n")
            return
        tables.show_ports(name, ports, names, first=self._first)
        self._first = False

    def holders(self, programs: Mapping[str, int]) -> None:
        """Which programs have event channels here."""
        if programs and not self._as_json:
            tables.show_holders(programs)
        for name, number in programs.items() if self._as_json else ():
            write(json.dumps({"event": "holder", "program": name, "ports": number}) + "\n")

    def moment(self, text: str) -> None:
        """When it was so."""
        if not self._as_json:
            tables.note(text)


async def of_domains(
    xen: Domain, domains: Sequence[str], bits: bool, backend: str, shown: Shown
) -> None:
    """The ports of these domains of this Xen."""
    names = await names_of(xen)
    wanted = [await number_of(xen, domain) for domain in domains] or [xen.domid]
    for domid in wanted:
        own = domid == xen.domid
        ports = await listed(xen, None if own else domid, bits=bits, backend=backend)
        shown.domain(names.get(domid, f"domain {domid}"), ports, names)
        lister = registry.find(backend)
        if own and isinstance(lister, ListsPorts):
            shown.holders(lister.port_holders())


async def names_of(xen: Domain) -> dict[int, str]:
    """The names of the domains, as far as this one may read them."""
    found = await names_in(xen.store) if xen.domid == 0 else {}
    return {**found, 0: CALLER, xen.domid: xen.name}


def of_lab(domains: Sequence[str], bits: bool, reporter: Observer, shown: Shown) -> None:
    """The ports of these domains of a lab, each booted with that one."""
    for domain in domains:
        guest = None if domain == CALLER else domain
        ports = [
            PortState(**{**each, "state": Status[each["state"].upper()]})
            for each in run_scenario(f"lists({guest!r}, bits={bits})", LAB, reporter)
        ]
        names = {0: CALLER} | {port.domid: domain for port in ports}
        shown.domain(domain, ports, names)


def of_scenario(
    target: str, at: float | None, domains: Sequence[str], reporter: Reporter, shown: Shown
) -> None:
    """The ports of a scenario's domains, all of them or these, on a simulated Xen."""
    simulator = registry.find(SIM)
    if not isinstance(simulator, ShowsPorts):
        raise BackendError("the installed backend 'sim' shows no ports: upgrade it")
    loaded = load(target)
    guests = [name for name in loaded.halves if name != CALLER]
    names = {0: CALLER} | dict(enumerate(guests, start=1))
    numbers = {name: domid for domid, name in names.items() if name in loaded.halves}
    for domain in domains:
        if domain not in numbers and domain not in map(str, numbers.values()):
            known = ", ".join(numbers)
            said = f"scenario {loaded.name!r} has no domain {domain!r}; it has: {known}"
            raise ScenarioError(said)
    reporter.begins(loaded)
    when, ports = simulator.ports(
        loaded, RunOptions(), reporter, at=None if at is None else round(at * 1e9)
    )
    for name, domid in numbers.items():
        if not domains or name in domains or str(domid) in domains:
            shown.domain(name, [port for port in ports if port.domid == domid], names)
    moment = "" if at is not None else ", when most ports were open"
    shown.moment(f"{loaded.name} after {span(when)}{moment}")
