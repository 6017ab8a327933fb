"""Xen: what all domains of a machine have in common."""

from __future__ import annotations

from activations.errors import BackendError
from activations.lower import Clock as ClockName
from xen_sim.clock import Calendar, Clock, VirtualClock, WallClock
from xen_sim.domain import XenDomain
from xen_sim.processor import Processor
from xen_sim.tape import Tape
from xen_sim.trace import Trace
from xen_sim.xenstored import Xenstored, toolstack


class Hypervisor:
    """One processor, one clock, one xenstored, and the domains."""

    def __init__(
        self, clock: ClockName, tape: Tape | None, *, explored: bool, trace: Trace | None
    ) -> None:
        self.calendar = Calendar()
        self.clock: Clock = (VirtualClock if clock == "virtual" else WallClock)(self.calendar)
        self.processor = Processor(self.clock, tape)
        self.explored = explored
        """Whether vCPUs can be preempted at every step on shared memory."""
        self.trace = trace
        self.xenstored = Xenstored()
        toolstack.introduce_dom0(self.xenstored)
        self.domains: dict[int, XenDomain] = {}
        """The domains there are, by domid."""
        self._frames = 0
        self._next_domid = 1

    def new_frame(self) -> int:
        """The number of a frame that nobody has yet."""
        self._frames += 1
        return self._frames

    def create(self, name: str) -> XenDomain:
        """A new domain. The one called `dom0` gets domid 0; the others are numbered from 1."""
        if any(domain.name == name for domain in self.domains.values()):
            raise BackendError(f"this machine has a domain called {name!r} already")
        domid = 0
        if name != "dom0":
            domid = self._next_domid
            self._next_domid += 1
            toolstack.introduce(self.xenstored, domid, name)
        domain = self.domains[domid] = XenDomain(self, domid, name)
        return domain

    def destroy(self, domain: XenDomain) -> None:
        """A domain is gone, and xenstored is told."""
        domain.release()
        if self.domains.pop(domain.domid, None) and domain.domid:
            toolstack.release(self.xenstored, domain.domid)
