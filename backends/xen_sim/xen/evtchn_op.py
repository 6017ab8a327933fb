"""Hypercall 32 as a kernel makes it: a command, and a structure in the guest's memory.

A structure is read whole, and only the fields that are results are written back: what Xen leaves
alone keeps what the guest had there.

Source: do_event_channel_op in xen/common/event_channel.c.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, ENOSYS
from struct import Struct
from typing import TYPE_CHECKING

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op, Status
from activations.errors import XenError

if TYPE_CHECKING:
    from xen_sim.xen.event_channel import EventChannels

Results = list[tuple[int, Struct, tuple[int, ...]]]
"""What is written back: at which offset, in which layout, what."""

_U8, _U16, _U32 = Struct("<B"), Struct("<H"), Struct("<I")


def perform(channels: EventChannels, command: int, argument: bytearray) -> None:
    """Carry a command out. Raises `XenError` as `Hypercalls.event_channel_op` says."""
    found = _COMMANDS.get(command)
    if found is None:
        raise XenError(ENOSYS, "EVTCHNOP", f"there is no command {command}")
    structure, operation = found
    if len(argument) < structure.size:
        what = f"{structure.size} bytes at the argument, of which {len(argument)} can be read"
        raise XenError(EFAULT, f"EVTCHNOP_{Op(command).name.lower()}", what)
    for offset, layout, values in operation(channels, *structure.unpack_from(argument)) or ():
        layout.pack_into(argument, offset, *values)


def _port_at(offset: int, port: int) -> Results:
    return [(offset, _U32, (port,))]


def _status(channels: EventChannels, domid: int, port: int, *_: int) -> Results:
    channel = channels.status(domid, port)
    results: Results = [(8, _U32, (channel.status,)), (12, _U32, (channel.vcpu,))]
    match channel.status:
        case Status.UNBOUND:
            results.append((16, _U16, (channel.remote_domid,)))
        case Status.INTERDOMAIN:
            results.append((16, _U16, (channel.remote_domid,)))
            results.append((20, _U32, (channel.remote_port,)))
        case Status.VIRQ | Status.PIRQ:
            results.append((16, _U32, (channel.number,)))
    return results


def _init_control(channels: EventChannels, gfn: int, offset: int, vcpu: int, _: int) -> Results:
    return [(16, _U8, (channels.init_control(gfn, offset, vcpu),))]


_COMMANDS: dict[int, tuple[Struct, Callable[..., Results | None]]] = {
    Op.BIND_INTERDOMAIN: (
        abi.BIND_INTERDOMAIN,
        lambda xen, domid, port, _: _port_at(8, xen.bind_interdomain(domid, port)),
    ),
    Op.BIND_VIRQ: (
        abi.BIND_VIRQ,
        lambda xen, virq, vcpu, _: _port_at(8, xen.bind_virq(virq, vcpu)),
    ),
    Op.BIND_PIRQ: (abi.BIND_PIRQ, lambda xen, pirq, flags, _: _port_at(8, xen.bind_pirq(pirq))),
    Op.CLOSE: (abi.CLOSE, lambda xen, port: xen.close(port)),
    Op.SEND: (abi.SEND, lambda xen, port: xen.send(port)),
    Op.STATUS: (abi.STATUS, _status),
    Op.ALLOC_UNBOUND: (
        abi.ALLOC_UNBOUND,
        lambda xen, domid, remote, _: _port_at(4, xen.alloc_unbound(domid, remote)),
    ),
    Op.BIND_IPI: (abi.BIND_IPI, lambda xen, vcpu, _: _port_at(4, xen.bind_ipi(vcpu))),
    Op.BIND_VCPU: (abi.BIND_VCPU, lambda xen, port, vcpu: xen.bind_vcpu(port, vcpu)),
    Op.UNMASK: (abi.UNMASK, lambda xen, port: xen.unmask(port)),
    Op.RESET: (abi.RESET, lambda xen, domid: xen.reset(domid)),
    Op.INIT_CONTROL: (abi.INIT_CONTROL, _init_control),
    Op.EXPAND_ARRAY: (abi.EXPAND_ARRAY, lambda xen, gfn: xen.expand_array(gfn)),
    Op.SET_PRIORITY: (
        abi.SET_PRIORITY,
        lambda xen, port, priority: xen.set_priority(port, priority),
    ),
    Op.RESET_CONT: (abi.RESET, lambda xen, domid: xen.reset(domid, resuming=True)),
}
