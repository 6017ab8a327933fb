"""A plain guest: a function on a vCPU, without asyncio.

    def main(guest: PlainGuest) -> int:
        port = guest.alloc_unbound(0)
        guest.wait(port)
        return port

It uses a kernel as an event loop does, and hypercalls directly. For kernels' own tests, and for
exploring: a run costs microseconds where an event loop in each domain costs milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from activations.abi.event_channel import DOMID_SELF
from xen_sim.guests.hypercalls import Hypercalls
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Platform
from xen_sim.hardware.cpu import CPU


class PlainGuest:
    """One vCPU of a domain, its kernel started. `kernel`, `xen` (the hypercalls) and `cpu` are to
    be used as one likes; the methods are what most programs want of them."""

    def __init__(self, kernel: Kernel) -> None:
        platform = kernel.platform
        self.platform: Platform = platform
        self.name: str = platform.name
        self.kernel = kernel
        self.xen: Hypercalls = platform.xen
        self.cpu: CPU = platform.cpu
        self.fired: Counter[int] = Counter()
        """How often each port was delivered and not waited for."""
        kernel.start()

    def alloc_unbound(self, remote_domid: int) -> int:
        """A new port for this domain to bind to; it may fire from now on."""
        return self._bound(self.xen.alloc_unbound(DOMID_SELF, remote_domid))

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """A new port, connected to one of another domain's; Xen has set it pending once."""
        return self._bound(self.xen.bind_interdomain(remote_domid, remote_port))

    def send(self, port: int) -> None:
        """EVTCHNOP_send."""
        self.xen.send(port)

    def take(self) -> Sequence[int]:
        """Demux: the ports that fired, each unmasked again."""
        taken = self.kernel.demux()
        fired = tuple(taken)
        if fired:
            self.fired.update(fired)
            self.kernel.unmask(taken)
        return fired

    def sleep(self, deadline: int | None = None) -> None:
        """Block until an event, or the deadline (absolute ns)."""
        self.kernel.block(deadline)

    def wait(self, port: int) -> None:
        """Until this port was delivered: once for each delivery."""
        while not self.fired[port]:
            if not self.take():
                self.sleep()
        self.fired[port] -= 1

    def _bound(self, port: int) -> int:
        if self.platform.vcpu:
            self.xen.bind_vcpu(port, self.platform.vcpu)
        self.kernel.bound(port)
        self.kernel.unmask((port,))
        return port
