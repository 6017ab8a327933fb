"""Solo5's lower half, as it finally shipped for PVHv2.

The invariant: only Xen sets evtchn_upcall_pending, only the demux clears it, and it is read with
delivery disabled right before sleeping. Four faults once stood in these few lines; `solo5_2020` is
the code as it was.

    mask, unmask    the guest's own bits; Xen is asked only when an event came while masked
    demux           masks each port, then clears its pending bit; the consumer unmasks
    block           cli; look; set the timer; sti; hlt
    upcall          acknowledges, and touches nothing else

Solo5 itself has the upcall vector alone. On the other two deliveries the handler clears
evtchn_upcall_pending, and so the look goes by the selector.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim.guests.kernel import TwoLevelKernel
from xen_sim.guests.platform import Platform
from xen_sim.hardware.memory import BIT, Words


class Solo5(TwoLevelKernel):
    """Event delivery on vCPU 0 of one guest."""

    name = "solo5"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.announced: Words = self.upcall_pending if self.upcalls.edge else self.pending_sel
        """What is not 0 when there are events to be demuxed."""
        self.timer_set: bool = False

    def upcall(self) -> None:
        self.upcalls.acknowledge()

    def demux(self) -> Sequence[int]:
        """Take the ports that fired; each is left masked, so that it fires again only after
        `unmask`. The words are read afresh for every port: one masked meanwhile is not taken."""
        taken = self.taken
        if not self.announced[0]:
            return taken
        try:
            self.upcall_pending[0] = 0
            self.scan(self.lock.xchg(self.pending_sel, 0, 0))
        except BaseException:
            if taken:
                self.mask(taken[-1])
            self.look_again()
            raise
        return taken

    def scan(self, selected: int) -> None:
        """Take every port that fired in these words, lowest first."""
        lock, pending, masks, taken = self.lock, self.pending, self.masks, self.taken
        while selected:
            word = (selected & -selected).bit_length() - 1
            selected &= selected - 1
            while ready := pending[word] & ~masks[word]:
                bit = (ready & -ready).bit_length() - 1
                taken.append(word * 64 + bit)
                lock.bts(masks, word, bit)
                lock.btr(pending, word, bit)

    def unmask_port(self, port: int) -> None:
        """Xen's own unmask acts only on a masked port: mask it again first."""
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if self.pending[word] & BIT[bit]:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)

    def block(self, deadline: int | None) -> None:
        upcalls = self.upcalls
        upcalls.disable()
        if self.announced[0]:
            upcalls.enable()
        else:
            if deadline is not None or self.timer_set:
                self.timer_set = deadline is not None
                self.xen.set_timer(deadline)
            upcalls.sleep()
