"""What a guest asks of Xen.

As methods, for the lower half; and as Xen has them, for whoever tests code that makes hypercalls:
a command number and a structure in memory, refused with ENOSYS and EFAULT where Xen does so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EACCES, EFAULT, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op, Status
from activations.abi.sched import POLL_MAX_PORTS
from activations.errors import XenError

if TYPE_CHECKING:
    from xen_sim.domain import XenDomain
    from xen_sim.event_channel import EventChannels


class Hypercalls:
    """One domain's way into Xen, on its own vCPU."""

    def __init__(self, domain: XenDomain) -> None:
        self._domain = domain
        channels = domain.event_channels
        self.unmask = channels.unmask
        self.set_timer = domain.set_timer
        self.send = channels.send if domain.xen.trace is None else self._traced_send

    def _traced_send(self, port: int) -> None:
        self._domain.trace("send", port=port)
        self._domain.event_channels.send(port)

    def event_channel_op(self, command: int, argument: bytearray) -> None:
        """Hypercall 32. `argument` is the command's structure; results are written into it.

        Raises `XenError` with ENOSYS for a command there is not, EFAULT for an argument that is
        too short to be the structure, and with what the operation itself is refused with.
        """
        try:
            structure, perform = _COMMANDS[Op(command)]
        except ValueError:
            raise XenError(ENOSYS, "EVTCHNOP", f"there is no command {command}") from None
        if len(argument) < structure.size:
            what = f"{structure.size} bytes at the argument, of which {len(argument)} can be read"
            raise XenError(EFAULT, f"EVTCHNOP_{Op(command).name.lower()}", what)
        fields = structure.unpack_from(argument)
        results = perform(self._domain.event_channels, *fields)
        structure.pack_into(argument, 0, *fields[: len(fields) - len(results)], *results)

    def poll(self, ports: Sequence[int], timeout: int = 0) -> None:
        """SCHEDOP_poll: sleep until one of these ports is pending, masked or not, or until
        `timeout` (absolute ns; 0 for none). EINVAL for more than 128 ports, or one that is not."""
        channels = self._domain.event_channels
        if len(ports) > POLL_MAX_PORTS:
            raise XenError(EINVAL, "SCHEDOP_poll", f"{len(ports)} ports, {POLL_MAX_PORTS} at most")
        for port in ports:
            if not 0 <= port <= channels.max_ports:
                raise XenError(EINVAL, "SCHEDOP_poll", f"there is no port {port}")
        if any(map(channels.is_pending, ports)):
            return
        xen, vcpu = self._domain.xen, self._domain.vcpu
        alarm = xen.calendar.add(timeout, vcpu.kick) if timeout else None
        channels.polled = frozenset(ports)
        try:
            xen.processor.wait(vcpu)
        finally:
            channels.polled = frozenset()
            if alarm is not None:
                xen.calendar.remove(alarm)


# Each command: its structure, and what it does with the fields. It returns the last fields anew.


def _status(channels: EventChannels, domid: int, port: int, *_: int) -> tuple[int, ...]:
    channel = channels.status(domid, port)
    if channel is None:
        return (Status.CLOSED, 0, 0, 0)
    match channel.status:
        case Status.UNBOUND:
            about = (channel.remote_domid, 0)
        case Status.INTERDOMAIN:
            about = (channel.remote_domid, channel.remote_port)
        case Status.VIRQ:
            about = (channel.virq, 0)
        case _:
            about = (0, 0)
    return (channel.status, 0, *about)


def _init_control(
    channels: EventChannels, gfn: int, offset: int, vcpu: int, link_bits: int
) -> NoReturn:
    if vcpu != 0:
        raise XenError(ENOENT, "EVTCHNOP_init_control", f"there is no vcpu {vcpu}")
    if offset > abi.FIFO_MAX_OFFSET or offset % 8:
        raise XenError(EINVAL, "EVTCHNOP_init_control", f"offset {offset}")
    raise XenError(ENOSYS, "EVTCHNOP_init_control", "the simulated Xen has the two-level ABI")


def _expand_array(channels: EventChannels, gfn: int) -> NoReturn:
    raise XenError(EOPNOTSUPP, "EVTCHNOP_expand_array", "this domain uses the two-level ABI")


def _set_priority(channels: EventChannels, port: int, priority: int) -> NoReturn:
    if priority > abi.FIFO_LOWEST_PRIORITY:
        raise XenError(EINVAL, "EVTCHNOP_set_priority", f"priority {priority}")
    if channels.channel(port) is None:
        raise XenError(EACCES, "EVTCHNOP_set_priority", f"port {port} is free")
    raise XenError(ENOSYS, "EVTCHNOP_set_priority", "the two-level ABI has no priorities")


def _quiet(operation: Callable[..., Any]) -> Callable[..., tuple[int, ...]]:
    """An operation without results."""

    def perform(*fields: Any) -> tuple[int, ...]:
        operation(*fields)
        return ()

    return perform


_COMMANDS: dict[Op, tuple[Struct, Callable[..., tuple[int, ...]]]] = {
    Op.BIND_INTERDOMAIN: (
        abi.BIND_INTERDOMAIN,
        lambda xen, domid, port, _: (xen.bind_interdomain(domid, port),),
    ),
    Op.BIND_VIRQ: (abi.BIND_VIRQ, lambda xen, virq, vcpu, _: (xen.bind_virq(virq, vcpu),)),
    Op.BIND_PIRQ: (abi.BIND_PIRQ, lambda xen, pirq, flags, _: (xen.bind_pirq(pirq),)),
    Op.CLOSE: (abi.CLOSE, _quiet(lambda xen, port: xen.close(port))),
    Op.SEND: (abi.SEND, _quiet(lambda xen, port: xen.send(port))),
    Op.STATUS: (abi.STATUS, _status),
    Op.ALLOC_UNBOUND: (
        abi.ALLOC_UNBOUND,
        lambda xen, domid, remote, _: (xen.alloc_unbound(domid, remote),),
    ),
    Op.BIND_IPI: (abi.BIND_IPI, lambda xen, vcpu, _: (xen.bind_ipi(vcpu),)),
    Op.BIND_VCPU: (abi.BIND_VCPU, _quiet(lambda xen, port, vcpu: xen.bind_vcpu(port, vcpu))),
    Op.UNMASK: (abi.UNMASK, _quiet(lambda xen, port: xen.unmask(port))),
    Op.RESET: (abi.RESET, _quiet(lambda xen, domid: xen.reset(domid))),
    Op.INIT_CONTROL: (abi.INIT_CONTROL, _init_control),
    Op.EXPAND_ARRAY: (abi.EXPAND_ARRAY, _expand_array),
    Op.SET_PRIORITY: (abi.SET_PRIORITY, _set_priority),
}
