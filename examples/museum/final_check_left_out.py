"""A ring's final check, left out.

Who has emptied a ring asks to be told of the next request, by req_event, and sleeps. A request that
came before the word was written was published by somebody who read the old one, and told nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair

REQUESTS = 2


def faulty_back(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    taken = 0
    while taken < REQUESTS:
        if taken < page.req_prod:
            taken += 1
            continue
        page.req_event = taken + 1
        guest.wait(ports[0])


def cured_back(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    taken = 0
    while taken < REQUESTS:
        if taken < page.req_prod:
            taken += 1
            continue
        page.req_event = taken + 1
        if taken == page.req_prod:  # the final check
            guest.wait(ports[0])


def front(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for request in range(1, REQUESTS + 1):
        page.req_prod = request
        if page.req_event == request:
            guest.send(ports[0])


FIELDS = {"req_prod": 0, "req_event": 1}
faulty = pair("final_check_left_out", faulty_back, front, fields=FIELDS)
cured = pair("cured", cured_back, front, fields=FIELDS, reducible=True)
