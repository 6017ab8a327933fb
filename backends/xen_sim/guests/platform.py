"""What a guest sees of the machine, from one of its vCPUs: a processor, memory and hypercalls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xen_sim.guests.hypercalls import Hypercalls
from xen_sim.hardware.cpu import CPU
from xen_sim.hardware.memory import Frame, Lock
from xen_sim.shared_info import EventWords, VcpuInfo

Delivery = Literal["vector", "callback", "pv"]
"""How Xen interrupts it: the upcall vector of its local APIC, a callback vector that Xen injects,
or the callback of a classic PV guest."""


@dataclass(frozen=True, slots=True, eq=False)
class Platform:
    """One vCPU of a guest, as its kernel sees it."""

    name: str
    vcpu: int
    """Its number, 0 for the one that boots."""
    vcpus: int
    """How many the domain has."""
    cpu: CPU
    lock: Lock
    """The instructions that lock the bus."""
    xen: Hypercalls
    shared_info: Frame
    new_frame: Callable[[], Frame]
    """A further page of the guest's own memory."""
    mapped_memory: Callable[[int], memoryview]
    """What it has mapped of another's at this frame number, by GNTTABOP_map_grant_ref."""
    time_ns: Callable[[], int]
    delivery: Delivery
    max_ports: int
    """The highest port that Xen will give it."""
    shared: dict[str, Any]
    """The guest's own memory that its vCPUs share, by name: for a kernel's tables."""

    def vcpu_info(self) -> VcpuInfo:
        """This vCPU's part of shared_info."""
        return VcpuInfo(self.shared_info, self.vcpu, self.cpu.before)

    def event_words(self) -> EventWords:
        """The two-level ABI's words."""
        return EventWords(self.shared_info, self.cpu.before)
