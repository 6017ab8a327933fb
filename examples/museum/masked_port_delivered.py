"""A scan that does not look at the mask.

A port is masked for as long as its data is in use. An event for it is kept, and Xen announces
nothing; but the next event of any port in the same word has the word scanned, and who goes by the
pending bits alone finds both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from activations.promises import always
from xen_sim import PlainGuest
from xen_sim.explore.pair import Page, pair
from xen_sim.guests.mini_os import MiniOS


class InTheHandler(MiniOS):
    """Ports are served as they are found."""

    handler: Callable[[int], None]

    def take(self, word: int, bit: int) -> None:
        self.lock.btr(self.pending, word, bit)
        self.handler(word * 64 + bit)


class Faulty(InTheHandler):
    def active(self, word: int) -> int:
        return self.pending[word]


class Cured(InTheHandler):
    def active(self, word: int) -> int:
        return self.pending[word] & ~self.masks[word]


def consume(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    mine, _ = ports
    in_use = False
    told = set()

    def handler(port: int) -> None:
        always(not (in_use and port == mine), "no port is delivered while it is masked")
        told.add(port)

    assert isinstance(guest.kernel, InTheHandler)
    guest.kernel.handler = handler
    guest.kernel.mask(mine)
    in_use = True
    page.sum += 1
    in_use = False
    guest.kernel.unmask((mine,))
    while True:
        guest.cpu.cli()
        if told == set(ports):
            break
        guest.cpu.sti_hlt()


def produce(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for port in ports:
        guest.send(port)


faulty = pair("masked_port_delivered", consume, produce, kernel=Faulty, fields={"sum": 0}, ports=2)
cured = pair("cured", consume, produce, kernel=Cured, fields={"sum": 0}, ports=2, reducible=True)
