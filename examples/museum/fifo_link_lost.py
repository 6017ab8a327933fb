"""A FIFO event word that is unlinked by a read and a write.

Xen appends an event by writing its port into the word of the last one, as long as that is LINKED.
What it links between the guest's read and the guest's write is written over. The event is pending
and linked by its own word, so that Xen never queues it again; but no queue leads to it.
"""

from __future__ import annotations

from activations.abi.event_channel import FIFO_LINK_MASK, FIFO_LINKED
from xen_sim.explore.lower_half import lower_half
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.hardware.memory import BIT, Words

LINK = BIT[FIFO_LINKED] | FIFO_LINK_MASK


class Faulty(LinuxFifo):
    def unlink(self, words: Words, index: int) -> int:
        word = words[index]
        words[index] = word & ~LINK
        return word & FIFO_LINK_MASK


class Cured(LinuxFifo):
    def unlink(self, words: Words, index: int) -> int:
        word = words[index]
        while (found := self.lock.cmpxchg(words, index, word, word & ~LINK)) != word:
            word = found
        return word & FIFO_LINK_MASK


faulty = lower_half(Faulty, ports=2, sends=1, name="fifo_link_lost")
cured = lower_half(Cured, ports=2, sends=1, name="cured")
