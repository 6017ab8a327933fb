"""Waiters that are woken inside the scan.

A waiter that runs as soon as its port is found answers its peer; the peer answers at once; and its
port is found again, in the same pass. The two keep each other going, and no sleeper is ever woken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xen_sim import PlainGuest, Solo5
from xen_sim.explore.pair import Page, pair

ROUNDS = 3


class Wakes(Solo5):
    wake: Callable[[int], None]
    """Runs who waits for a port."""


class Faulty(Wakes):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.btr(self.pending, word, bit)
                self.wake(word * 64 + bit)


class Cured(Wakes):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)
                self.lock.btr(self.pending, word, bit)
        for port in self.taken:
            self.wake(port)


def answer(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    assert isinstance(guest.kernel, Wakes)
    guest.kernel.wake = guest.send
    answered = 0
    while answered < ROUNDS:
        if taken := guest.take():
            answered += len(taken)
        else:
            guest.sleep()


def ask(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    for _ in range(ROUNDS):
        guest.send(ports[0])
        guest.wait(ports[0])


faulty = pair("waking_inside_the_scan", answer, ask, kernel=Faulty)
cured = pair("cured", answer, ask, kernel=Cured, reducible=True)
