"""SCHEDOP_poll, which takes 128 ports at most.

A guest with more ports than that polls the first of them. While it sleeps all is well: any event
wakes it. But one that came before, for a port that is not among them, is not looked for, and the
guest sleeps on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import PlainGuest, Solo5
from xen_sim.explore.pair import Page, pair
from xen_sim.guests.platform import Platform

PORTS = 129
MOST = 128


class KnowsItsPorts(Solo5):
    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.ports: list[int] = []

    def bound(self, port: int) -> None:
        self.ports.append(port)


class Faulty(KnowsItsPorts):
    def block(self, deadline: int | None) -> None:
        self.cpu.cli()
        self.xen.poll(self.ports[:MOST], deadline or 0)
        self.cpu.sti()


class Cured(KnowsItsPorts):
    """Sleeps until any event, however many ports there are."""

    def block(self, deadline: int | None) -> None:
        self.cpu.cli()
        if self.announced[0]:
            self.cpu.sti()
        else:
            self.xen.set_timer(deadline)
            self.cpu.sti_hlt()


def consume(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    guest.wait(ports[-1])


def produce(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    guest.send(ports[-1])


faulty = pair("poll_of_128_ports", consume, produce, kernel=Faulty, ports=PORTS)
cured = pair("cured", consume, produce, kernel=Cured, ports=PORTS, reducible=True)
