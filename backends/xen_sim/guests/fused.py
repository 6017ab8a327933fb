"""Solo5's lower half under an event loop, in a machine that is neither explored nor traced: the
same bytes in the end, in fewer steps. Every turn of every event loop goes through these few lines.

`Solo5` is the reference: a test feeds both the same bytes and events and compares every byte. What
is left out here, and why that cannot be seen:

    the order of bits    No vCPU runs while one scans: its flag and its selector are cleared last.
    masking in between   From the demux to the unmask that follows no vCPU runs, nor any task of
                         this one: a port that is masked and unmasked again is left alone.
    the upcall           Its handler makes its EOI, and nothing else. With the one vector requested
                         and none in service, IRR and ISR are clear before and after.
    the timer            Where VIRQ_TIMER would be the next thing that happens, it is set, fires, is
                         taken and leaves no byte behind. Time goes on to that instant, and the loop
                         finds that its sleep has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from activations.abi.sched import TIMEOUT_LIMIT_NS
from activations.shortcut import shorten
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Platform
from xen_sim.guests.solo5 import Solo5
from xen_sim.guests.upcalls import UPCALL_VECTOR
from xen_sim.hardware.memory import BIT

if TYPE_CHECKING:
    from activations._accelerator import Fused

_UPCALL = 1 << UPCALL_VECTOR


class FusedSolo5(Solo5):
    """`Solo5` on plain memory and the upcall vector."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._apic = platform.cpu.apic
        self._rest = platform.cpu.scheduler.sleep
        """`CPU.rest`, a call less."""
        self._skip_to = platform.cpu.scheduler.skip_to
        self._time_ns = platform.time_ns
        self._unmask_by_xen = platform.xen.unmask
        shorten(self, upcall=platform.cpu.apic.eoi)  # and nothing else

    def demux(self) -> Sequence[int]:
        """Take the ports that fired. Each bit that says that there are any goes behind what it
        stands for, so that a scan that an exception breaks off is made again."""
        taken = self.taken
        if not self.upcall_pending[0]:
            return taken
        pending = self.pending
        selected = self.pending_sel[0]
        while selected:
            low = selected & -selected
            selected ^= low
            word = low.bit_length() - 1
            waiting = pending[word]
            ready = waiting & ~self.masks[word]
            left = waiting ^ ready
            while ready:
                bit = ready & -ready
                ready ^= bit
                taken.append(word * 64 + bit.bit_length() - 1)
            pending[word] = left
        self.pending_sel[0] = 0
        self.upcall_pending[0] = 0
        return taken

    def unmask(self, ports: Sequence[int]) -> None:
        if ports is self.taken:
            self.taken.clear()  # they never were masked
            return
        pending, masks = self.pending, self.masks
        for port in ports:
            word, bit = port >> 6, BIT[port & 63]
            masked = masks[word] & ~bit
            masks[word] = masked
            if pending[word] & bit:
                masks[word] = masked | bit
                self._unmask_by_xen(port)

    def block(self, deadline: int | None) -> None:
        cpu = self.cpu
        if self.upcall_pending[0]:
            cpu.sti()
            return
        if (deadline is not None or self.timer_set) and self._timed(deadline):
            return
        if cpu.due:
            cpu.sti_hlt()
            return
        cpu.interrupts = True  # `sti; hlt`, and the handler
        self._rest(cpu)
        apic = self._apic
        if apic.irr == _UPCALL and not apic.isr:
            apic.irr = 0
            cpu.due = False
        else:
            cpu.take_interrupt()

    def _timed(self, deadline: int | None) -> bool:
        """Set the timer, or stop it; true where it is the deadline now, since nothing else comes
        before, and there is no more to wait for. (A deadline that Xen would take for a mistake is
        left to Xen.)"""
        skipped = (
            deadline is not None
            and not self.cpu.due
            and 0 <= deadline <= self._time_ns() + TIMEOUT_LIMIT_NS
            and self._skip_to(self.cpu, deadline)
        )
        if skipped:
            deadline = None
        if deadline is not None or self.timer_set:
            self.timer_set: bool = deadline is not None
            self.xen.set_timer(deadline)
        return skipped

    def accelerated(self, accelerator: Any) -> Fused:
        """`demux` and `unmask` in C."""
        shared_info = self.platform.shared_info.bytes
        fast: Fused = accelerator.Fused(self.taken, self.unmask, shared_info)
        return fast


def fastest(kernel: type[Kernel], platform: Platform) -> type[Kernel]:
    """The class to take for this kernel, under an event loop, where it does the same faster."""
    plain = platform.cpu.before is None and platform.delivery == "vector"
    return FusedSolo5 if kernel is Solo5 and plain else kernel
