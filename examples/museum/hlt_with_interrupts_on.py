"""`hlt` with interrupts on: the root cause of June 2020.

The guest looks for events, finds none, and halts. An upcall that comes between the look and the
`hlt` is taken, its handler returns, and the guest halts all the same: with an event pending, of
which nobody will tell it again.
"""

from __future__ import annotations

from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half


class Faulty(Solo5):
    def block(self, deadline: int | None) -> None:
        if self.announced[0]:
            return
        self.xen.set_timer(deadline)
        self.cpu.hlt()


class Cured(Solo5):
    """Looks with interrupts off, and `sti; hlt` cannot be torn apart."""

    def block(self, deadline: int | None) -> None:
        self.cpu.cli()
        if self.announced[0]:
            self.cpu.sti()
            return
        self.xen.set_timer(deadline)
        self.cpu.sti_hlt()


faulty = lower_half(Faulty, name="hlt_with_interrupts_on")
cured = lower_half(Cured, name="cured")
