"""Mini-OS's lower half: events are taken in the interrupt's own context.

The handler clears evtchn_upcall_pending, takes the selector and scans it, and does for each port
what is to be done; here it notes the port for `demux`. Unmasking makes no hypercall: where an event
came meanwhile, the guest sets the selector's bit and the flag itself, and has its handler entered.
Blocking disables upcalls, looks whether there is work, sets the timer, and blocks; the timer is
stopped afterwards.

The upcall vector it does not have: setting the flag by hand raises nothing there, so Xen is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim.guests.kernel import TwoLevelKernel
from xen_sim.guests.platform import Platform


class InContext(TwoLevelKernel):
    """A two-level kernel whose handler scans, and notes what it finds.

    What is noted belongs to this processor: upcalls are off where it is written, and taking it is
    no step that anybody could come in between.
    """

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.noted: list[int] = []

    def upcall(self) -> None:
        self.upcalls.acknowledge()
        try:
            self.take_all()
        except BaseException:
            if self.noted:
                self.mask(self.noted[-1])
            self.look_again()
            raise

    def take_all(self) -> None:
        """What was announced, once."""
        self.upcall_pending[0] = 0
        self.scan(self.lock.xchg(self.pending_sel, 0, 0))

    def scan(self, selected: int) -> None:
        """Take every port that fired in these words, lowest first."""
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := self.active(word):
                self.take(word, (ready & -ready).bit_length() - 1)

    def active(self, word: int) -> int:
        """The ports of a word that are this vCPU's to take."""
        return self.pending[word] & ~self.masks[word]

    def take(self, word: int, bit: int) -> None:
        self.noted.append(word * 64 + bit)
        self.lock.bts(self.masks, word, bit)
        self.lock.btr(self.pending, word, bit)

    def demux(self) -> Sequence[int]:
        if self.noted:
            self.taken.extend(self.noted)
            self.noted.clear()
        return self.taken

    def block(self, deadline: int | None) -> None:
        self.upcalls.disable()
        if self.noted:
            self.upcalls.enable()
        else:
            self.set_timer(deadline)
            self.upcalls.sleep()

    def set_timer(self, deadline: int | None) -> None:
        self.xen.set_timer(deadline)


class MiniOS(InContext):
    """Mini-OS on one vCPU."""

    name = "mini-os"

    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if not self.is_pending(port):
            return
        if not self.upcalls.by_hand:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)
        elif not self.lock.bts(self.pending_sel, 0, word):
            self.upcalls.announce()

    def block(self, deadline: int | None) -> None:
        super().block(deadline)
        if deadline is not None:
            self.xen.set_timer(None)
