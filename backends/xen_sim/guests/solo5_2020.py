"""Solo5's first attempt at PVHv2, as it stood on xen-devel in June 2020: the specimen.

Four faults in a few lines, each of which alone could hide behind the others:

    1  unmask looks at evtchn_mask where it has to look at evtchn_pending
    2  the handler clears evtchn_upcall_pending, and so hides the event from `block`
    3  the demux leaves a port unmasked while it waits to be consumed
    4  the root cause: `hlt` with interrupts on. The upcall comes between the last look and the
       `hlt`, its handler returns, and the vCPU sleeps with an event pending

`solo5` is the cure, and the `faults` of a class say which of them it still has.
"""

from __future__ import annotations

from typing import ClassVar

from xen_sim.guests.solo5 import Solo5
from xen_sim.hardware.memory import BIT


class Solo5Of2020(Solo5):
    """The code of the mail. A subclass may have fewer faults."""

    name = "solo5-2020"
    faults: ClassVar[frozenset[int]] = frozenset({1, 2, 3, 4})

    def upcall(self) -> None:
        if 2 in self.faults:
            self.upcall_pending[0] = 0
        super().upcall()

    def scan(self, selected: int) -> None:
        if 3 not in self.faults:
            super().scan(selected)
            return
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.pending[word] & ~self.masks[word]:
                bit = (ready & -ready).bit_length() - 1
                self.taken.append(word * 64 + bit)
                self.lock.btr(self.pending, word, bit)

    def unmask_port(self, port: int) -> None:
        if 1 not in self.faults:
            super().unmask_port(port)
            return
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.masks[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)

    def block(self, deadline: int | None) -> None:
        if 4 not in self.faults:
            super().block(deadline)
            return
        if self.announced[0]:
            return
        if deadline is not None or self.timer_set:
            self.timer_set: bool = deadline is not None
            self.xen.set_timer(deadline)
        self.cpu.hlt()


def with_faults(*faults: int) -> type[Solo5Of2020]:
    """The shipped lower half with these faults planted in it."""
    name = "Solo5With" + "".join(map(str, faults))
    return type(name, (Solo5Of2020,), {"faults": frozenset(faults)})
