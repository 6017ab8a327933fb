"""A driver that sleeps with responses pending.

It takes one response for each event. But events are no count: two that come before the first was
taken are one. The second response lies in the ring, and the driver waits for an event that it has
had.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair

REQUESTS = 2


def faulty_front(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    page.req_prod = REQUESTS
    guest.send(ports[0])
    taken = 0
    while taken < REQUESTS:
        guest.wait(ports[0])
        if taken < page.rsp_prod:
            taken += 1


def cured_front(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    page.req_prod = REQUESTS
    guest.send(ports[0])
    taken = 0
    while taken < REQUESTS:
        guest.wait(ports[0])
        while taken < page.rsp_prod:
            taken += 1


def back(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    answered = 0
    while answered < REQUESTS:
        guest.wait(ports[0])
        while answered < page.req_prod:
            answered += 1
            page.rsp_prod = answered
            guest.send(ports[0])
            guest.xen.yield_()  # it has other things to do


FIELDS = {"req_prod": 0, "rsp_prod": 0}
faulty = pair("responses_slept_through", faulty_front, back, fields=FIELDS)
cured = pair("cured", cured_front, back, fields=FIELDS, reducible=True)
