"""A pending bit that is cleared behind the handler.

What comes while the handler runs, behind its last look at the data, finds the bit set: Xen has
nothing to announce then. The guest clears the bit for both, and has seen one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair
from xen_sim.guests.mini_os import MiniOS

SENDS = 2


class InTheHandler(MiniOS):
    """Ports are served as they are found."""

    handler: Callable[[], None]


class Faulty(InTheHandler):
    def take(self, word: int, bit: int) -> None:
        self.handler()
        self.lock.btr(self.pending, word, bit)


class Cured(InTheHandler):
    def take(self, word: int, bit: int) -> None:
        self.lock.btr(self.pending, word, bit)
        self.handler()


def consume(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    seen = 0

    def look() -> None:
        nonlocal seen
        seen = page.items

    assert isinstance(guest.kernel, InTheHandler)
    guest.kernel.handler = look
    while True:
        guest.cpu.cli()
        if seen == SENDS:
            break
        guest.cpu.sti_hlt()


def produce(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for number in range(1, SENDS + 1):
        page.items = number
        guest.send(ports[0])


faulty = pair(
    "pending_cleared_after_the_handler", consume, produce, kernel=Faulty, fields={"items": 0}
)
cured = pair("cured", consume, produce, kernel=Cured, fields={"items": 0}, reducible=True)
