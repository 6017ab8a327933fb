"""An unmask that tests the wrong word: the first fault of June 2020.

What came while a port was masked set its pending bit and nothing else. So whoever unmasks has to
look at that bit. This one looks at the mask, which it has just cleared: the bit stays set, and Xen
announces no event of a port that is pending already.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half
from xen_sim.hardware.memory import BIT


class Faulty(Solo5):
    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.masks[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)


class Cured(Solo5):
    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.pending[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)


faulty = lower_half(Faulty, sends=3, rests=True, name="unmask_tests_the_mask")
cured = lower_half(Cured, sends=3, rests=True, name="cured")
