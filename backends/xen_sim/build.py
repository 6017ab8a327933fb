"""Building a domain: Xen's side of it, a kernel for each vCPU, and event loops on these.

The one place that knows both a domain as Xen has it and what its guest sees: it hands the guest its
processor, its memory and its hypercalls.
"""

from __future__ import annotations

from typing import Any

from activations.abi.event_channel import MAX_PORTS_DEFAULT
from activations.backend import new_generation
from activations.errors import BackendError
from activations.loop import EventLoop
from activations.traced import deliveries
from activations.virtual_loop import VirtualEventLoop
from xen_sim.guests import catalogue
from xen_sim.guests.asyncio_guest import Devices, Guest, WallGuest
from xen_sim.guests.fused import fastest
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Delivery, Platform
from xen_sim.hardware.cpu import CPU
from xen_sim.schedule.clock import WallClock
from xen_sim.xen.domain import XenDomain
from xen_sim.xen.hypercall import door
from xen_sim.xen.hypervisor import Hypervisor
from xen_sim.xen.store_link import StoreLink


class Built:
    """A domain, and the kernel it is built with."""

    def __init__(self, domain: XenDomain, kernel: type[Kernel], delivery: Delivery) -> None:
        self.domain = domain
        self._kernel = kernel
        self._delivery = delivery
        self._shared: dict[str, Any] = {}
        self.started: list[CPU] = []
        """Processors that `start_idle` has brought up."""
        self._open = 0
        """Event loops that are not closed yet."""

    @property
    def multiprocessor(self) -> bool:
        return self._kernel.multiprocessor

    def platform(self, vcpu: int) -> Platform:
        """What the guest sees from this vCPU."""
        domain = self.domain
        return Platform(
            name=domain.vcpus[vcpu].cpu.name,
            vcpu=vcpu,
            vcpus=len(domain.vcpus),
            cpu=domain.vcpus[vcpu].cpu,
            lock=domain.xen.lock,
            xen=door(domain.vcpus[vcpu]),
            shared_info=domain.shared_info,
            new_frame=domain.new_frame,
            mapped_memory=domain.mapped_memory,
            time_ns=domain.xen.clock.time_ns,
            delivery=self._delivery,
            max_ports=domain.event_channels.max_ports,
            shared=self._shared,
        )

    def kernel(self, vcpu: int) -> Kernel:
        """The kernel on this vCPU."""
        return self._kernel(self.platform(vcpu))

    def make_loop(self, vcpu: int, *, of: int) -> EventLoop:
        """An event loop on this vCPU, one of so many of the domain."""
        platform = self.platform(vcpu)
        domain = self.domain
        noted = domain.vcpus[vcpu].trace
        devices = Devices(domain.domid, domain.page_grants, self._open_store, self._close, noted)
        clock = domain.xen.clock
        traced = domain.xen.trace is not None
        kernel_class = self._kernel if traced else fastest(self._kernel, platform)
        kernel = kernel_class(platform)
        guest: Guest
        if isinstance(clock, WallClock):
            guest = WallGuest(platform, kernel, devices, clock)
        else:
            guest = Guest(platform, kernel, devices)
        if traced:  # before the loop: it takes its lower half's methods as they are
            deliveries(guest, lambda: loop.domain.events.ports, noted)
        loop = EventLoop(guest) if guest.clock == "wall" else VirtualEventLoop(guest)
        domain.vcpus[vcpu].up = True
        self._open = of
        return loop

    def start_idle(self, first: int) -> None:
        """Bring up the vCPUs from this one on, which have no program; called on vCPU 0."""
        xen = door(self.domain.vcpus[0])
        for vcpu in range(first, len(self.domain.vcpus)):
            xen.initialise(vcpu, self.kernel(vcpu).idle)
            xen.up(vcpu)
            self.started.append(self.domain.vcpus[vcpu].cpu)

    def resume(self, loop: EventLoop) -> None:
        """The domain was suspended and goes on: its kernel begins again, and a task that waits on
        what was bound before is told."""
        guest = loop._lower
        assert isinstance(guest, Guest)
        guest.start()
        new_generation(loop)
        guest.platform.cpu.kick()

    def _open_store(self) -> tuple[memoryview, int]:
        link = StoreLink(self.domain)
        return link.page, link.port

    def _close(self) -> None:
        """An event loop was closed: with the last one the domain goes."""
        self._open -= 1
        if not self._open:
            self.domain.xen.destroy(self.domain)


def build(
    xen: Hypervisor,
    name: str,
    kernel: type[Kernel] | str,
    *,
    delivery: Delivery = "vector",
    vcpus: int = 1,
    max_ports: int = MAX_PORTS_DEFAULT,
    programs: int = 1,
) -> Built:
    """A new domain. Raises `BackendError` for one that cannot be."""
    catalogue.delivery(delivery)
    kernel = catalogue.kernel(kernel)
    if programs > 1 and not kernel.multiprocessor:
        raise BackendError(
            f"{name!r} is to run {programs} programs, but {kernel.name} is for one vCPU: take "
            "linux, linux-fifo or freebsd"
        )
    if programs > vcpus > 0:
        raise BackendError(f"{name!r} is to run {programs} programs on {vcpus} vCPUs")
    domain = xen.create(name, vcpus=vcpus, max_ports=max_ports, pv=delivery == "pv")
    return Built(domain, kernel, delivery)
