"""A notification before the index is published.

The other end wakes, looks, finds nothing new, and sleeps again. The index that comes then is an
index that nobody is told of.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair

REQUESTS = 2


def faulty_front(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for request in range(1, REQUESTS + 1):
        guest.send(ports[0])
        page.req_prod = request


def cured_front(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for request in range(1, REQUESTS + 1):
        page.req_prod = request
        guest.send(ports[0])


def back(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    taken = 0
    while taken < REQUESTS:
        if taken < page.req_prod:
            taken += 1
        else:
            guest.wait(ports[0])


faulty = pair("notified_too_early", back, faulty_front, fields={"req_prod": 0})
cured = pair("cured", back, cured_front, fields={"req_prod": 0}, reducible=True)
