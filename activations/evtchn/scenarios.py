"""Pings and floods as scenarios, for backends that run several domains; and their programs.

A scenario is a file where it is to be sent to other machines: `as_file` writes one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from activations import registry
from activations.abi.xenstore_paths import home
from activations.domain import Domain
from activations.evtchn.board import Kind
from activations.evtchn.flood import Flood, Water, flood
from activations.evtchn.halves import Channels, answer, to_domain, to_itself
from activations.evtchn.listing import PortState, named, virq_name
from activations.evtchn.ping import Ping, Trips, ping
from activations.offers import ListsPorts
from activations.scenario import Scenario

Work = Ping | Flood
Statistics = Trips | Water
CALLER = "dom0"


def statistics_of(work: Work) -> Statistics:
    """Where its statistics go."""
    return Trips() if isinstance(work, Ping) else Water()


async def perform(
    xen: Domain, domid: int | None, work: Work, statistics: Statistics, within: float | None = None
) -> str:
    """Do it, to this domain or to the one itself; give where the other ends were, in words."""
    kind = Kind.ECHO if isinstance(work, Ping) else Kind.COUNT
    async with _channels(xen, domid, kind, work.channels, within) as channels:
        if isinstance(work, Ping):
            assert isinstance(statistics, Trips)
            await ping(channels, work, statistics)
        else:
            assert isinstance(statistics, Water)
            await flood(channels, work, statistics)
        return channels.peer


@asynccontextmanager
async def _channels(
    xen: Domain, domid: int | None, kind: Kind, count: int, within: float | None
) -> AsyncIterator[Channels]:
    if domid is None or domid == xen.domid:
        async with to_itself(xen, kind, count) as channels:
            yield channels
    else:
        async with to_domain(xen, domid, kind, count, within=within) as channels:
            yield channels


def calls(work: Work, guest: str | None = None) -> Scenario:
    """dom0 calls a guest of this name, or itself; it returns the statistics as data."""
    scenario = Scenario("event channels", clock="wall")

    @scenario.domain(CALLER)
    async def caller(xen: Domain) -> dict[str, Any]:
        statistics = statistics_of(work)
        domid = None if guest is None else await xen.find(guest)
        peer = await perform(xen, domid, work, statistics)
        return {"peer": peer if guest is None else guest, **statistics.as_data()}

    if guest is not None:

        @scenario.domain(guest)
        async def other(xen: Domain) -> dict[str, int]:
            return await answer(xen, 0)

    return scenario


def lists(domain: str | None, *, bits: bool = False) -> Scenario:
    """dom0 lists the ports of a guest of this name, or its own, by its kernel's hypercalls."""
    scenario = Scenario("ports", clock="wall")
    seen = "data/evtchn-listed"

    @scenario.domain(CALLER)
    async def caller(xen: Domain) -> list[dict[str, Any]]:
        domid = None if domain is None else await xen.find(domain)
        found = await listed(xen, domid, bits=bits)
        if domid is not None:
            await xen.store.write(f"{home(domid)}/{seen}", "")
        return [port.as_data() for port in found]

    if domain not in (None, CALLER):

        @scenario.domain(domain)
        async def other(xen: Domain) -> None:
            await xen.store.wait_for(seen)

    return scenario


def watches(virq: int, count: int | None) -> Scenario:
    """dom0 prints a line for each event of a VIRQ."""
    scenario = Scenario("a virtual interrupt", clock="wall")

    @scenario.domain(CALLER)
    async def caller(xen: Domain) -> None:
        await watched(xen, virq, count, print, lambda event: print(f"{virq_name(virq)} {event}"))

    return scenario


async def watched(
    xen: Domain,
    virq: int,
    count: int | None,
    begun: Callable[[str], None],
    raised: Callable[[int], None],
) -> None:
    """Bind a VIRQ, and tell of each event with its number, until there were so many."""
    with xen.events.bind_virq(virq) as port:
        begun(f"VIRQ {virq_name(virq)} is port {port.number} of {xen.name}; Ctrl-C ends it")
        async for event in port:
            raised(event)
            if event == count:
                return


async def listed(
    xen: Domain, domid: int | None, *, bits: bool = False, backend: str = "linux"
) -> list[PortState]:
    """The ports of a domain of the Xen that this process runs on, with what each is for."""
    lister = registry.find(backend)
    assert isinstance(lister, ListsPorts)
    return await named(xen.store, lister.event_channels(domid, bits=bits))


def as_file(call: str) -> str:
    """A scenario file of what a call of this module's gives."""
    return (
        "from activations.evtchn.flood import Flood\n"
        "from activations.evtchn.ping import Ping\n"
        "from activations.evtchn.scenarios import calls, lists, watches\n"
        f"scenario = {call}\n"
    )
