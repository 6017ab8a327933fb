"""A handler that clears evtchn_upcall_pending: the second fault of June 2020.

On the upcall vector the flag outlives the handler, and the guest goes by it: it demuxes where it is
set, and sleeps where it is not. A handler that clears it hides the very event it was entered for.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half


class Faulty(Solo5):
    def upcall(self) -> None:
        self.upcall_pending[0] = 0
        self.cpu.eoi()


class Cured(Solo5):
    def upcall(self) -> None:
        self.cpu.eoi()


faulty = lower_half(Faulty, name="handler_clears_the_flag")
cured = lower_half(Cured, name="cured")
