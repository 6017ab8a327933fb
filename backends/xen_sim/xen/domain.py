"""struct domain: a domain as Xen knows it."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING, Any

from activations.errors import XenError
from xen_sim.hardware.cpu import CPU
from xen_sim.hardware.memory import Before, Frame
from xen_sim.hardware.pages import stepped
from xen_sim.schedule.step import Step
from xen_sim.xen.event_channel import EventChannels
from xen_sim.xen.faulty_channels import FaultyChannels
from xen_sim.xen.faulty_grants import FaultyGrants
from xen_sim.xen.grant_table import MAX_FRAMES, GrantTable, Mapping, Page
from xen_sim.xen.shared_pages import PageGrants
from xen_sim.xen.vcpu import VCPU

if TYPE_CHECKING:
    from xen_sim.xen.hypervisor import Hypervisor


class XenDomain:
    """vCPUs, memory, event channels and grants."""

    def __init__(
        self, xen: Hypervisor, domid: int, name: str, *, vcpus: int, max_ports: int, pv: bool
    ) -> None:
        self.xen = xen
        self.domid = domid
        self.name = name
        self.pv = pv
        """A classic PV guest: it has no local APIC, and `evtchn_upcall_mask` for interrupt flag."""
        self.frames: dict[int, Frame] = {}
        """Its memory, as far as Xen has to do with it, by frame number."""
        self.shared_info: Frame = self.new_frame("shared_info")
        self.polling: dict[int, VCPU] = {}
        """vCPUs that are in SCHEDOP_poll, by number."""
        self.vcpus: list[VCPU] = [
            VCPU(self, number, xen.processor(f"{name}.{number}" if number else name, xen.scheduler))
            for number in range(vcpus)
        ]
        faulty = xen.faults is not None and xen.faults.of("events")
        self.event_channels: EventChannels = (FaultyChannels if faulty else EventChannels)(
            self, max_ports
        )
        scarce = xen.faults is not None and xen.faults.of("grants")
        self.grant_table: GrantTable = GrantTable(self)
        self.page_grants: PageGrants = (FaultyGrants if scarce else PageGrants)(self)
        self.mapped: dict[int, Mapping] = {}
        """Grants that it maps by hypercalls, by frame number."""

    def __repr__(self) -> str:
        return f"<XenDomain {self.domid} {self.name!r}>"

    @property
    def privileged(self) -> bool:
        """Whether it may act for other domains."""
        return self.domid == 0

    @property
    def before(self) -> Before | None:
        """What Xen's own accesses to this domain's memory tell; None where it is not explored."""
        return self._xen_step if self.xen.explored else None

    def seen(self, memory: memoryview, name: str, *, readonly: bool = False) -> Any:
        """Shared memory as the domain's own programs see it, by whichever of its vCPUs: in an
        explored machine each access is a step."""
        if self.xen.explored:
            return stepped(memory, name, self._guest_step, readonly=readonly)
        return memory.toreadonly() if readonly else memory

    def _guest_step(self, step: Step) -> None:
        running = self.xen.scheduler.current
        if isinstance(running, CPU):
            running.step(step)

    def new_frame(self, name: str = "memory") -> Frame:
        """A page of its memory."""
        frame = Frame(self.xen.new_frame(), name)
        self.frames[frame.number] = frame
        return frame

    def map_grant_table(self, index: int) -> Frame:
        """A frame of the grant table becomes one of its memory. EINVAL where there can be none."""
        if not 0 <= index < MAX_FRAMES:
            raise XenError(EINVAL, "XENMEM_add_to_physmap", f"frame {index} of the grant table")
        self.grant_table.grow(index + 1)
        frame = self.grant_table.frames[index]
        if not frame.number:
            frame.number = self.xen.new_frame()
            self.frames[frame.number] = frame
        return frame

    def page(self, gfn: int) -> Page | None:
        """A page of its memory that is its own, for Xen: None where there is none."""
        if gfn in self.frames:
            return Page(self.frames[gfn].bytes, 0, gfn)
        return self.page_grants.pages.get(gfn)

    def mapped_memory(self, gfn: int) -> Any:
        """A grant that it maps by hypercall, as the guest sees it: read-only where it is. Raises
        `KeyError` where it maps none."""
        there = self.mapped[gfn]
        return self.seen(there.page.view(), f"memory {there.ref}", readonly=not there.writable)

    def _xen_step(self, step: Step) -> None:
        """Xen, on behalf of whichever vCPU runs, is about to touch this domain's memory."""
        running = self.xen.scheduler.current
        if isinstance(running, CPU):
            running.step_of_xen(step)

    def check_pollers(self, port: int) -> None:
        """A port has become pending: wake those who poll for it."""
        if self.polling:
            for vcpu in list(self.polling.values()):
                vcpu.check_poll(port)

    def trace(self, what: str, **details: Any) -> None:
        """Note something in the machine's trace, if it keeps one."""
        if self.xen.trace is not None:
            self.xen.trace.note(self.xen.clock.time_ns(), self.name, what, **details)

    def suspend(self) -> None:
        """The domain is saved and restored: its ports and grants are gone, and shared_info is a new
        page."""
        self.trace("suspend")
        self.event_channels.forget()
        self.page_grants.forget()
        self.grant_table.forget()
        self.mapped.clear()
        for vcpu in self.vcpus:
            vcpu.reset()
        self.shared_info.bytes[:] = bytes(len(self.shared_info.bytes))

    def release(self) -> None:
        """The domain is gone: its timers, mappings and ports with it."""
        for vcpu in self.vcpus:
            vcpu.timers.stop()
        self.page_grants.let_go()
        self.grant_table.unmap_all()
        self.event_channels.close_all()

    def take_apart(self) -> None:
        """After its release: drop the references between it and its parts. So it is freed with the
        loop that it served, by counting references."""
        for vcpu in self.vcpus:
            vcpu.take_apart()
        self.vcpus.clear()
        del self.event_channels, self.grant_table, self.page_grants
