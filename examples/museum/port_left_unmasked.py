"""A demux that leaves a port unmasked: the third fault of June 2020.

It loses nothing. But a peer that sends again while the demux scans has its port found again, in the
same pass: for as long as it goes on, nobody else has a turn, no timer and no task.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half


class Faulty(Solo5):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.btr(self.pending, word, bit)


class Cured(Solo5):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)  # until it has been consumed
                self.lock.btr(self.pending, word, bit)


faulty = lower_half(Faulty, name="port_left_unmasked")
cured = lower_half(Cured, name="cured")
