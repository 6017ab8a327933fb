"""EVTCHNOP_unmask of a port that is not masked.

The guest clears the mask bit by itself, sees that an event came meanwhile, and asks Xen to announce
it. But Xen announces only what it unmasks itself: for a port that is unmasked already the hypercall
does nothing, and returns 0.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half
from xen_sim.hardware.memory import BIT


class Faulty(Solo5):
    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.pending[word] & BIT[bit]:
            self.xen.unmask(port)


class Cured(Solo5):
    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.pending[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)  # mask it again first
            self.xen.unmask(port)


faulty = lower_half(Faulty, sends=3, rests=True, name="unmask_of_an_unmasked_port")
cured = lower_half(Cured, sends=3, rests=True, name="cured")
