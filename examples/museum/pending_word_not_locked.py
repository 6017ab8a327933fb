"""A pending bit that is cleared by a read and a write of its word.

Xen sets bits in the same word, for other ports, at any moment. What it sets between the read and
the write is written over: the event is gone, and not even its bit is left to tell of it.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half
from xen_sim.hardware.memory import BIT


class Faulty(Solo5):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)
                self.pending[word] = self.pending[word] & ~BIT[bit]


class Cured(Solo5):
    def scan(self, selected: int) -> None:
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.bts(self.masks, word, bit)
                self.lock.btr(self.pending, word, bit)


faulty = lower_half(Faulty, ports=2, sends=1, name="pending_word_not_locked")
cured = lower_half(Cured, ports=2, sends=1, name="cured")
