"""A port's counter that outlives the port.

Events are counted by port, and a waiter waits until the count is more than what it has seen. Xen
gives the lowest free number to whoever binds next. So who binds behind a close gets the old number,
and with a counter that was kept it is told of an event that was somebody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from activations.promises import always
from xen_sim import PlainGuest
from xen_sim.explore.pair import GUEST, Page, pair


class Faulty:
    """The events of a guest."""

    def __init__(self, guest: PlainGuest) -> None:
        self.guest = guest
        self.count: Counter[int] = Counter()

    def after(self, port: int, seen: int) -> int:
        while self.count[port] <= seen:
            fired = self.guest.take()
            self.count.update(fired)
            if not fired:
                self.guest.sleep()
        return self.count[port]

    def close(self, port: int) -> None:
        self.guest.kernel.mask(port)
        self.guest.xen.close(port)


class Cured(Faulty):
    def close(self, port: int) -> None:
        super().close(port)
        del self.count[port]


def hear_from_two(guest: PlainGuest, page: Page, ports: Sequence[int], kind: type[Faulty]) -> None:
    events = kind(guest)
    first, ready = ports
    events.after(first, 0)
    always(page.told == 1, "an event comes behind what it tells of")
    events.close(first)
    page.port = second = guest.alloc_unbound(0)
    guest.send(ready)
    events.after(second, 0)
    always(page.told == 2, "an event comes behind what it tells of")


def faulty_guest(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    hear_from_two(guest, page, ports, Faulty)


def cured_guest(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    hear_from_two(guest, page, ports, Cured)


def tell_twice(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    first, ready = ports
    page.told = 1
    guest.send(first)
    guest.wait(ready)
    second = guest.bind_interdomain(GUEST, page.port)
    page.told = 2
    guest.send(second)


FIELDS = {"told": 0, "port": 0}
faulty = pair("stale_counter", faulty_guest, tell_twice, fields=FIELDS, ports=2)
cured = pair("cured", cured_guest, tell_twice, fields=FIELDS, ports=2, reducible=True)
