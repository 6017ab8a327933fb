"""evtchn_upcall_pending cleared behind the scan.

Xen sets the flag last, and only where the selector's bit was not set yet. An event that comes into
a word that was scanned already sets both again: to clear the flag now is to say that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half


class Faulty(Solo5):
    def demux(self) -> Sequence[int]:
        if self.announced[0]:
            self.scan(self.lock.xchg(self.pending_sel, 0, 0))
            self.upcall_pending[0] = 0
        return self.taken


class Cured(Solo5):
    def demux(self) -> Sequence[int]:
        if self.announced[0]:
            self.upcall_pending[0] = 0
            self.scan(self.lock.xchg(self.pending_sel, 0, 0))
        return self.taken


faulty = lower_half(Faulty, ports=2, sends=1, name="flag_cleared_after_the_scan")
cured = lower_half(Cured, ports=2, sends=1, name="cured")
