"""evtchn_upcall_pending that nobody clears.

Nothing is lost. But the guest looks at the flag before it sleeps, and from its first event on it
finds it set: it never sleeps again, and takes a whole processor to wait for its timer.
"""

from __future__ import annotations

from collections.abc import Sequence

from activations.abi.event_channel import Virq
from xen_sim import PlainGuest, Solo5
from xen_sim.explore.pair import Page, pair

MS = 1_000_000
STEPS = 1_000
"""More than the program takes."""


class Faulty(Solo5):
    def demux(self) -> Sequence[int]:
        if self.announced[0]:
            self.scan(self.lock.xchg(self.pending_sel, 0, 0))
        return self.taken


class Cured(Solo5):
    def demux(self) -> Sequence[int]:
        if self.announced[0]:
            self.upcall_pending[0] = 0
            self.scan(self.lock.xchg(self.pending_sel, 0, 0))
        return self.taken


def sleep_behind_an_event(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    timer = guest.xen.bind_virq(Virq.TIMER)
    guest.kernel.unmask((timer,))
    guest.wait(ports[0])
    while guest.platform.time_ns() < MS:
        if not guest.take():
            guest.sleep(MS)


def send(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    guest.send(ports[0])


faulty = pair("flag_never_cleared", sleep_behind_an_event, send, kernel=Faulty, budget=STEPS)
cured = pair("cured", sleep_behind_an_event, send, kernel=Cured, budget=STEPS, reducible=True)
