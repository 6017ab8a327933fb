"""An unmask that does not look what came under the mask.

An event for a masked port is kept as its pending bit, and announced to nobody. To clear the mask is
half of an unmask: the other half is to look at the bit, and to ask Xen to announce the event now.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half
from xen_sim.hardware.memory import BIT


class Faulty(Solo5):
    def unmask_port(self, port: int) -> None:
        self.lock.btr(self.masks, port >> 6, port & 63)


class Cured(Solo5):
    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.pending[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)


faulty = lower_half(Faulty, sends=3, rests=True, name="unmask_without_a_look")
cured = lower_half(Cured, sends=3, rests=True, name="cured")
