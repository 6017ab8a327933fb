"""Solo5's lower half for a machine that is not explored: the same bytes, in fewer calls.

Nobody comes in between two steps of a plain machine, so an instruction that locks the bus is a load
and a store. Every turn of every event loop goes through these few lines. `Solo5` is the reference:
a test feeds both the same bytes and events and compares every byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Platform
from xen_sim.guests.solo5 import Solo5
from xen_sim.hardware.memory import BIT


class FusedSolo5(Solo5):
    """`Solo5` on plain memory and the upcall vector."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._unmask_by_xen = platform.xen.unmask
        self.upcall = platform.cpu.apic.eoi  # type: ignore[method-assign]  # and nothing else

    def demux(self) -> Sequence[int]:
        taken = self.taken
        if not self.upcall_pending[0]:
            return taken
        try:
            self.upcall_pending[0] = 0
            selected = self.pending_sel[0]
            self.pending_sel[0] = 0
            pending, masks = self.pending, self.masks
            while selected:
                low = selected & -selected
                selected ^= low
                word = low.bit_length() - 1
                while ready := pending[word] & ~masks[word]:
                    bit = ready & -ready
                    taken.append(word * 64 + bit.bit_length() - 1)
                    masks[word] |= bit
                    pending[word] ^= bit
        except BaseException:
            if taken:
                self.mask(taken[-1])
            self.look_again()
            raise
        return taken

    def unmask(self, ports: Sequence[int]) -> None:
        pending, masks = self.pending, self.masks
        for port in ports:
            word, bit = port >> 6, BIT[port & 63]
            masked = masks[word] & ~bit
            masks[word] = masked
            if pending[word] & bit:
                masks[word] = masked | bit
                self._unmask_by_xen(port)
        if ports is self.taken:
            self.taken.clear()

    def block(self, deadline: int | None) -> None:
        cpu = self.cpu
        cpu.interrupts = False
        if self.upcall_pending[0]:
            cpu.sti()
        else:
            if deadline is not None or self.timer_set:
                self.timer_set = deadline is not None
                self.xen.set_timer(deadline)
            cpu.sti_hlt()


def fastest(kernel: type[Kernel], platform: Platform) -> type[Kernel]:
    """The class to take for this kernel where it does the same faster."""
    plain = platform.cpu.before is None and platform.delivery == "vector"
    return FusedSolo5 if kernel is Solo5 and plain else kernel
