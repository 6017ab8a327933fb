"""The door: all that a guest can ask of Xen, for one of its vCPUs.

Each hypercall is a method, which raises `XenError` with Xen's errno; `event_channel_op` is
hypercall 32 as a kernel makes it, a command and a structure in memory. In an explored machine
entering is a step: others may run, and an interrupt land, before it; none lands within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EBUSY, EINVAL, ENOENT
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from activations.accelerator import accelerator
from activations.errors import XenError
from activations.shortcut import shorten
from xen_sim.hardware.apic import FIRST_VECTOR
from xen_sim.hardware.cpu import Handler
from xen_sim.hardware.memory import Frame
from xen_sim.schedule.step import Step
from xen_sim.xen import evtchn_op, gnttab_op
from xen_sim.xen.channel import Channel
from xen_sim.xen.delivery import Callback, PvUpcall, UpcallVector
from xen_sim.xen.event_2l import PlainTwoLevel

if TYPE_CHECKING:
    from activations._accelerator import Send
    from xen_sim.xen.event_channel import EventChannels
    from xen_sim.xen.vcpu import VCPU

_OPERATIONS = (
    *("alloc_unbound", "bind_interdomain", "bind_virq", "bind_pirq", "bind_ipi", "bind_vcpu"),
    *("close", "send", "unmask", "status", "reset"),
    *("init_control", "expand_array", "set_priority"),
)
"""Methods that are the event channels' own, of the same name."""

_OTHERS = (
    *("event_channel_op", "grant_table_op", "map_grant_table"),
    *("set_timer", "set_singleshot_timer", "set_periodic_timer"),
    *("yield_", "block", "poll", "initialise", "up", "down", "is_up"),
    *("set_upcall_vector", "set_callback_vector", "set_callbacks", "force_upcall"),
)

_STEPS = {name: Step("hypercall", f"EVTCHNOP_{name}") for name in _OPERATIONS}
_STEPS |= {name: Step("hypercall", name) for name in _OTHERS}


def door(vcpu: VCPU) -> Hypercalls:
    """This vCPU's way into Xen, stepped where the machine is explored."""
    return cast(Hypercalls, Stepped(vcpu)) if vcpu.domain.xen.explored else Hypercalls(vcpu)


class Hypercalls:
    """One vCPU's way into Xen."""

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self._domain = domain = vcpu.domain
        channels = domain.event_channels
        for name in _OPERATIONS:
            setattr(self, name, getattr(channels, name))
        shorten(self, set_timer=vcpu.timers.set_timer, block=vcpu.block)
        self.send = self._send(channels) if domain.xen.trace is None else self._traced_send

    def _send(self, channels: EventChannels) -> Callable[[int], None]:
        plain = not (self._domain.xen.explored or self._domain.xen.faults)
        if accelerator is None or not plain:
            return channels.send
        fast: Send = accelerator.Send(channels, Channel, PlainTwoLevel, channels.send)
        return fast.send

    def _traced_send(self, port: int) -> None:
        self._vcpu.trace("send", port=port)
        self._domain.event_channels.send(port)

    def event_channel_op(self, command: int, argument: bytearray) -> None:
        """Hypercall 32. `argument` is the command's structure; results are written into it.

        Raises `XenError` with ENOSYS for a command there is not, EFAULT for an argument that is
        too short to be the structure, and with what the operation itself is refused with.
        """
        evtchn_op.perform(self._domain.event_channels, command, argument)

    # Event channels: each is `EventChannels`'s own

    alloc_unbound: Callable[..., int]
    """EVTCHNOP_alloc_unbound: a port for the remote domain to bind; it need not exist yet."""
    bind_interdomain: Callable[..., int]
    """EVTCHNOP_bind_interdomain: a port, pending once, to another domain's."""
    bind_virq: Callable[..., int]
    """EVTCHNOP_bind_virq: a port for a virtual interrupt, of this vCPU."""
    bind_pirq: Callable[..., int]
    """EVTCHNOP_bind_pirq: a port for a physical interrupt. Here it never fires."""
    bind_ipi: Callable[..., int]
    """EVTCHNOP_bind_ipi: a port that tells this vCPU."""
    bind_vcpu: Callable[..., None]
    """EVTCHNOP_bind_vcpu: tell this vCPU from now on."""
    close: Callable[..., None]
    """EVTCHNOP_close: the port is free; the peer's becomes unbound."""
    send: Callable[..., None]
    """EVTCHNOP_send: set the peer's port pending."""
    unmask: Callable[..., None]
    """EVTCHNOP_unmask: clear the port's mask bit; if it is pending it fires."""
    status: Callable[..., Channel]
    """EVTCHNOP_status: a port's state, as it stands."""
    reset: Callable[..., None]
    """EVTCHNOP_reset: close every port, and go back to two levels."""
    init_control: Callable[..., int]
    """EVTCHNOP_init_control: a vCPU's control block for the FIFO ABI; the bits of a link."""
    expand_array: Callable[..., None]
    """EVTCHNOP_expand_array: words for 1,024 further ports of the FIFO ABI."""
    set_priority: Callable[..., None]
    """EVTCHNOP_set_priority: of what comes from now on, on the FIFO ABI."""

    # Grants

    def grant_table_op(
        self, command: int, argument: bytearray, count: int = 1, frame_list: list[int] | None = None
    ) -> None:
        """Hypercall 20. `argument` has `count` of the command's structures, into which results are
        written, each with its GNTST_*. GNTTABOP_setup_table writes the frames into `frame_list`,
        where the structure has an address.

        Raises `XenError` with ENOSYS for a command there is not for such a guest, EFAULT at the
        first structure that cannot be read, EINVAL for a count that cannot be; ENOSYS, EINVAL,
        ESRCH and EPERM of versions.
        """
        gnttab_op.perform(self._domain, command, argument, count, frame_list)

    def map_grant_table(self, index: int) -> Frame:
        """XENMEM_add_to_physmap of a frame of the grant table, at a new frame number of the
        guest's. The table grows to it. EINVAL for one that there cannot be."""
        return self._domain.map_grant_table(index)

    # Timers

    def set_timer(self, deadline: int | None) -> None:
        """set_timer_op, absolute nanoseconds; None stops it."""
        self._vcpu.timers.set_timer(deadline)

    def set_singleshot_timer(self, deadline: int | None, vcpu: int | None = None) -> None:
        """VCPUOP_set_singleshot_timer, of this vCPU (EINVAL for another); None stops it."""
        self._own("set_singleshot_timer", vcpu)
        self._vcpu.timers.set_singleshot(deadline)

    def set_periodic_timer(self, period: int | None, vcpu: int | None = None) -> None:
        """VCPUOP_set_periodic_timer, nanoseconds, of this vCPU; None stops it."""
        self._own("set_periodic_timer", vcpu)
        self._vcpu.timers.set_periodic(period)

    # Sleeping

    def block(self) -> None:
        """SCHEDOP_block: enable delivery, then sleep unless an upcall is due."""
        self._vcpu.block()

    def yield_(self) -> None:
        """SCHEDOP_yield."""
        self._domain.xen.scheduler.give_way(self._vcpu.cpu)

    def poll(self, ports: Sequence[int], timeout: int = 0) -> None:
        """SCHEDOP_poll: sleep until one of these ports is pending, masked or not, or until
        `timeout` (absolute ns; 0 for none). EINVAL for more than 128 ports, or one that is free."""
        self._vcpu.poll(ports, timeout)

    # vCPUs

    def initialise(self, vcpu: int, entry: Callable[[], None]) -> None:
        """VCPUOP_initialise: where it is to begin. EINVAL once it is up."""
        other = self._of("initialise", vcpu)
        if other.up:
            raise XenError(EINVAL, "VCPUOP_initialise", f"{other.cpu.name} is up")
        other.entry = entry

    def up(self, vcpu: int) -> None:
        """VCPUOP_up. EINVAL before VCPUOP_initialise; one that is up stays up."""
        other = self._of("up", vcpu)
        if other.entry is None and not other.up:
            raise XenError(EINVAL, "VCPUOP_up", f"{other.cpu.name} is not initialised")
        if not other.up:
            other.up = True
            assert other.entry is not None
            self._domain.xen.scheduler.start(other.cpu, other.entry)

    def down(self, vcpu: int) -> None:
        """VCPUOP_down: of this vCPU, which sleeps for good."""
        if self._of("down", vcpu) is not self._vcpu:
            raise XenError(EBUSY, "VCPUOP_down", f"vcpu {vcpu} can only take itself down here")
        self._vcpu.up = False
        while not self._vcpu.up:
            self._domain.xen.scheduler.wait(self._vcpu.cpu)

    def is_up(self, vcpu: int) -> bool:
        """VCPUOP_is_up."""
        return self._of("is_up", vcpu).up

    # How it is to be interrupted

    def set_upcall_vector(self, vector: int) -> None:
        """HVMOP_set_evtchn_upcall_vector, for this vCPU: through its local APIC. It is asserted
        once. EINVAL for a vector below 16, or a PV guest."""
        if not FIRST_VECTOR <= vector < 256 or self._domain.pv:
            raise XenError(EINVAL, "HVMOP_set_evtchn_upcall_vector", f"vector {vector}")
        self._vcpu.deliver_by(UpcallVector(self._vcpu.delivery, vector))
        self._vcpu.quicken()

    def set_callback_vector(self, vector: int) -> None:
        """HVM_PARAM_CALLBACK_IRQ with a vector, of the whole domain. EINVAL for a PV guest."""
        if not FIRST_VECTOR <= vector < 256 or self._domain.pv:
            raise XenError(EINVAL, "HVMOP_set_param", f"callback vector {vector}")
        for vcpu in self._domain.vcpus:
            vcpu.deliver_by(Callback(vcpu.delivery, vector))

    def set_callbacks(self, handler: Handler) -> None:
        """The event callback of a PV guest, for this vCPU. EINVAL for another kind of guest."""
        if not self._domain.pv:
            raise XenError(EINVAL, "set_callbacks", "not a PV guest")
        self._vcpu.deliver_by(PvUpcall(self._vcpu.delivery, handler))

    def force_upcall(self) -> None:
        """Any hypercall will do (Linux takes xen_version): on the way back Xen delivers what is
        due."""
        self._vcpu.cpu.take_interrupt()

    # What is refused

    def _of(self, op: str, vcpu: int) -> VCPU:
        if not 0 <= vcpu < len(self._domain.vcpus):
            raise XenError(ENOENT, f"VCPUOP_{op}", f"there is no vcpu {vcpu}")
        return self._domain.vcpus[vcpu]

    def _own(self, op: str, vcpu: int | None) -> None:
        if vcpu is not None and self._of(op, vcpu) is not self._vcpu:
            raise XenError(EINVAL, f"VCPUOP_{op}", f"vcpu {vcpu} is another one")


class Stepped:
    """The same, where entering is a step. A run makes few of the hypercalls that there are: each is
    made ready when it is first asked for."""

    def __init__(self, vcpu: VCPU) -> None:
        self._plain = Hypercalls(vcpu)
        self._before = vcpu.cpu.step

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _STEPS:
            raise AttributeError(f"there is no hypercall {name!r}")
        enter = partial(_enter, self._before, _STEPS[name], getattr(self._plain, name))
        setattr(self, name, enter)
        return enter


def _enter(
    before: Callable[[Step], None],
    step: Step,
    perform: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    before(step)
    return perform(*args, **kwargs)
