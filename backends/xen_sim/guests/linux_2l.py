"""Linux's lower half on the two-level ABI.

The handler clears evtchn_upcall_pending and scans, again for as long as the flag has been set
meanwhile. It begins where it stopped the last time, so that a busy port keeps no other waiting.
Each vCPU takes the ports that are bound to it. To unmask, it clears the mask bit; where an event
came meanwhile, it sets the bit again and asks Xen, which acts only on a masked port. (A PV guest
sets the selector and the flag itself.) Its clock is VCPUOP_set_singleshot_timer.
"""

from __future__ import annotations

from xen_sim.guests.freebsd import PerVcpu
from xen_sim.guests.platform import Platform

_WORDS = 64


class Linux2L(PerVcpu):
    """Linux on one of its vCPUs, `xen.fifo_events=0`."""

    name = "linux"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._start = 0
        """The word in which the next scan begins."""
        self._pv = platform.delivery == "pv"
        self._timer_set = False

    def take_all(self) -> None:
        """And again for as long as there was more meanwhile."""
        super().take_all()
        while self.upcall_pending[0]:
            super().take_all()

    def scan(self, selected: int) -> None:
        """Every word that is selected, beginning behind the one where the last scan ended."""
        start = self._start
        while selected:
            ahead = selected >> start << start or selected
            word = (ahead & -ahead).bit_length() - 1
            selected &= ~(1 << word)
            super().scan(1 << word)
            start = (word + 1) % _WORDS
        self._start = start

    def unmask_port(self, port: int) -> None:
        word, bit = port >> 6, port & 63
        self.lock.btr(self.masks, word, bit)
        if not self.is_pending(port):
            return
        if not self._pv:
            self.lock.bts(self.masks, word, bit)
            self.xen.unmask(port)
        elif not self.lock.bts(self.pending_sel, 0, word):
            self.upcalls.announce()

    def set_timer(self, deadline: int | None) -> None:
        if deadline is not None or self._timer_set:
            self._timer_set = deadline is not None
            self.xen.set_singleshot_timer(deadline)
