"""A swap of the whole pending word.

It takes 64 ports in one instruction, which is quick, and right as long as none of them is masked.
The bit of one that is masked goes with the others: it is not delivered now, and whoever unmasks it
finds nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair
from xen_sim.guests.mini_os import MiniOS

SENDS = 2


class Faulty(MiniOS):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            ready = self.lock.xchg(self.pending, word, 0) & ~self.masks[word]
            while ready:
                bit = (ready & -ready).bit_length() - 1
                ready &= ready - 1
                self.noted.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)


class Cured(MiniOS):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.noted.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)
                self.lock.btr(self.pending, word, bit)  # this port's bit, and no other


def consume(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    """Ports are masked for as long as they are served."""
    seen = dict.fromkeys(ports, 0)
    while min(seen.values()) < SENDS:
        taken = guest.kernel.demux()
        for port in taken:
            seen[port] = page.first if port == ports[0] else page.second
        if taken:
            guest.kernel.unmask(taken)
        else:
            guest.sleep()


def produce(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for number in range(1, SENDS + 1):
        page.first = number
        guest.send(ports[0])
        page.second = number
        guest.send(ports[1])


FIELDS = {"first": 0, "second": 0}
faulty = pair("pending_word_swapped", consume, produce, kernel=Faulty, fields=FIELDS, ports=2)
cured = pair("cured", consume, produce, kernel=Cured, fields=FIELDS, ports=2, reducible=True)
