"""FreeBSD's lower half: as Mini-OS's, but unmasking is always a hypercall.

The mask bit is left to Xen: EVTCHNOP_unmask clears it, and tells the vCPU of what came meanwhile.
Each vCPU takes the ports that are bound to it, by a mask of its own.
"""

from __future__ import annotations

from xen_sim.guests.mini_os import InContext
from xen_sim.guests.platform import Platform


class PerVcpu(InContext):
    """A kernel that tells the ports of one vCPU from those of another."""

    multiprocessor = True

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.here: list[int] = [0] * 64
        """The ports that are bound to this vCPU, as words of bits. Its own memory."""

    def active(self, word: int) -> int:
        return self.pending[word] & self.here[word] & ~self.masks[word]

    def bound(self, port: int) -> None:
        self.here[port >> 6] |= 1 << (port & 63)

    def closed(self, port: int) -> None:
        self.here[port >> 6] &= ~(1 << (port & 63))


class FreeBSD(PerVcpu):
    """FreeBSD on one of its vCPUs."""

    name = "freebsd"

    def unmask_port(self, port: int) -> None:
        self.xen.unmask(port)
