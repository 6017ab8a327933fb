"""Xen: what all domains of a machine have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from activations.abi.event_channel import MAX_PORTS_DEFAULT
from activations.errors import BackendError
from activations.lower import Clock as ClockName
from activations.trace import Trace
from xen_sim.faults.ask import Faults
from xen_sim.faults.kinds import NOTHING, Enabled
from xen_sim.hardware.cpu import CPU, SteppedCPU
from xen_sim.hardware.memory import PLAIN, STEPPED, Lock
from xen_sim.schedule.clock import Calendar, Clock, VirtualClock, WallClock
from xen_sim.schedule.kept import Kept, nothing
from xen_sim.schedule.scheduler import Scheduler, unexplained
from xen_sim.schedule.tape import Tape
from xen_sim.xen.domain import XenDomain
from xen_sim.xen.faulty_store import StoreFaults
from xen_sim.xenstored import Xenstored, toolstack

MAX_VCPUS = 32
"""XEN_LEGACY_MAX_VCPUS: as many have their vcpu_info in struct shared_info."""


class Hypervisor:
    """One processor, one clock, one xenstored, and the domains."""

    def __init__(
        self,
        clock: ClockName = "virtual",
        tape: Tape | None = None,
        *,
        explored: bool = False,
        trace: Trace | None = None,
        keep: Callable[[], Kept] = nothing,
        faults: Enabled = NOTHING,
    ) -> None:
        self.calendar: Calendar = Calendar(tape)
        self.clock: Clock = (VirtualClock if clock == "virtual" else WallClock)(self.calendar)
        self.scheduler: Scheduler = Scheduler(self.clock, tape, keep)
        self.explored = explored
        """Whether vCPUs can be preempted at every step."""
        self.processor: Callable[[str, Scheduler], CPU] = SteppedCPU if explored else CPU
        """What domains' vCPUs are."""
        self.lock: Lock = STEPPED if explored else PLAIN
        self.faults: Faults | None = (
            Faults(tape, faults, self.scheduler) if faults and tape else None
        )
        """What may go wrong; None where nothing does."""
        self.trace = trace
        self._xenstored: Xenstored | None = None
        self._untold: list[Callable[[Xenstored], None]] = [toolstack.introduce_dom0]
        """What xenstored is told of domains, until it has asked for it."""
        self.domains: dict[int, XenDomain] = {}
        """The domains there are, by domid."""
        self._names: set[str] = set()
        self._frames = 0
        self._next_domid = 1

    @property
    def xenstored(self) -> Xenstored:
        """Made when it is first asked for: what it was to be told before, it is told then. Most
        runs of an explorer never ask, and a domain's home costs more than all else about it."""
        if self._xenstored is None:
            self._xenstored = Xenstored()
            if self.faults is not None and self.faults.of("store"):
                self._xenstored.faults = StoreFaults(self, self.faults)
            for tell in self._untold:
                tell(self._xenstored)
            self._untold.clear()
        return self._xenstored

    def _tell(self, what: Callable[[Xenstored], None]) -> None:
        if self._xenstored is None:
            self._untold.append(what)
        else:
            what(self._xenstored)

    def new_frame(self) -> int:
        """The number of a frame that no domain has yet."""
        self._frames += 1
        return self._frames

    def create(
        self, name: str, *, vcpus: int = 1, max_ports: int = MAX_PORTS_DEFAULT, pv: bool = False
    ) -> XenDomain:
        """A new domain. The one called `dom0` gets domid 0; the others are numbered from 1.

        Raises `BackendError` for a name that is taken, or a number of vCPUs that cannot be.
        """
        if name in self._names:
            raise BackendError(f"this machine has a domain called {name!r} already")
        if not 1 <= vcpus <= MAX_VCPUS:
            raise BackendError(f"{name!r} cannot have {vcpus} vCPUs: 1 to {MAX_VCPUS}")
        domid = 0
        if name != "dom0":
            domid = self._next_domid
            self._next_domid += 1
            self._tell(partial(toolstack.introduce, domid=domid, name=name, vcpus=vcpus))
        domain = XenDomain(self, domid, name, vcpus=vcpus, max_ports=max_ports, pv=pv)
        self.domains[domid] = domain
        self._names.add(name)
        return domain

    def kill(self, domain: XenDomain) -> None:
        """A domain dies where it stands (`xl destroy`). dom0 itself goes on: there its program
        dies, and the kernel unmaps what that mapped, as for any process."""
        if not domain.privileged:
            domain.page_grants.lose_all()
        self.destroy(domain)

    def destroy(self, domain: XenDomain) -> None:
        """A domain is gone, and xenstored is told."""
        domain.release()
        if self.domains.get(domain.domid) is domain:
            del self.domains[domain.domid]
            self._names.discard(domain.name)
            if domain.domid:
                self._tell(partial(toolstack.release, domid=domain.domid))
        if self.scheduler.hub is None:  # nothing runs that will look at it
            domain.take_apart()
            if not self.domains:
                self.scheduler.report = unexplained
