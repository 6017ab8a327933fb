"""A handler that is sure to find an event.

An upcall is on its way for a while, and the bits that it is about are in memory before it. A guest
that is awake and looks at them takes the event, and then the upcall comes, for nothing. A handler
that takes this for an impossibility brings down a guest that did nothing wrong.
"""

from __future__ import annotations

from activations.promises import always
from xen_sim import Solo5
from xen_sim.explore.lower_half import lower_half

LATE = 3
"""The most steps that an upcall is on its way."""


class KnowsItHasBooted(Solo5):
    booted = False

    def start(self) -> None:
        super().start()  # registering gives an upcall for nothing, every time
        self.booted = True


class Faulty(KnowsItHasBooted):
    def upcall(self) -> None:
        always(self.upcall_pending[0] or not self.booted, "an upcall finds an event")
        self.cpu.eoi()


class Cured(KnowsItHasBooted):
    def upcall(self) -> None:
        self.cpu.eoi()


faulty = lower_half(Faulty, late=LATE, name="upcall_for_nothing")
cured = lower_half(Cured, late=LATE, name="cured")
