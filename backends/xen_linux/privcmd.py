"""/dev/xen/privcmd: hypercalls from the control domain's user space, for diagnostics.

The event-channel device cannot tell what a port is bound to; Xen can. Asking needs a hypercall,
and its argument a page that the kernel does not move: one of /dev/xen/hypercall.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap
from typing import ClassVar

from activations.abi import event_channel
from activations.abi import linux_privcmd as abi
from activations.abi.grant_table import PAGE_SIZE
from xen_linux.device import Device, Hints
from xen_linux.memory import address_of

HYPERVISOR_EVENT_CHANNEL_OP = 32


@dataclass(frozen=True, slots=True)
class PortStatus:
    """What Xen says of a port (EVTCHNOP_status)."""

    status: event_channel.Status
    vcpu: int
    remote_domid: int | None = None
    """Where it is unbound or interdomain: the domain it is for."""
    remote_port: int | None = None
    virq: int | None = None
    pirq: int | None = None


class Hypercalls(Device):
    """Raw hypercalls. Only the control domain may make them; elsewhere the driver refuses."""

    hints: ClassVar[Hints] = {
        ("EVTCHNOP_status", errno.ESRCH): "there is no such domain, or no longer",
        ("EVTCHNOP_status", errno.EINVAL): "the port is out of range",
        ("EVTCHNOP_status", errno.EPERM): "only the control domain makes hypercalls by privcmd",
        ("EVTCHNOP_status", errno.EACCES): "only the control domain makes hypercalls by privcmd",
    }

    def __init__(self, path: str = abi.PATH, buffer_path: str = abi.BUFFER_PATH) -> None:
        super().__init__(path)
        with Device(buffer_path) as buffer:
            self._page = mmap(buffer.fileno(), PAGE_SIZE, MAP_SHARED, PROT_READ | PROT_WRITE)

    def close(self) -> None:
        self._page.close()
        super().close()

    def port_status(self, domid: int, port: int) -> PortStatus:
        """What `port` of `domid` is bound to."""
        layout = event_channel.STATUS
        layout.pack_into(self._page, 0, domid, port, 0, 0, 0, 0)
        self._hypercall(
            HYPERVISOR_EVENT_CHANNEL_OP,
            event_channel.Op.STATUS,
            operation="EVTCHNOP_status",
            detail=f"domain {domid}, port {port}",
        )
        _, _, status, vcpu, first, second = layout.unpack_from(self._page)
        match event_channel.Status(status):
            case event_channel.Status.UNBOUND as state:
                return PortStatus(state, vcpu, remote_domid=first & 0xFFFF)
            case event_channel.Status.INTERDOMAIN as state:
                return PortStatus(state, vcpu, remote_domid=first & 0xFFFF, remote_port=second)
            case event_channel.Status.VIRQ as state:
                return PortStatus(state, vcpu, virq=first)
            case event_channel.Status.PIRQ as state:
                return PortStatus(state, vcpu, pirq=first)
            case state:
                return PortStatus(state, vcpu)

    def _hypercall(self, op: int, command: int, *, operation: str, detail: str) -> int:
        """A hypercall of the form op(command, pointer to the page)."""
        argument = bytearray(abi.HYPERCALL.pack(op, command, address_of(self._page), 0, 0, 0))
        return self._ioctl(abi.IOCTL_PRIVCMD_HYPERCALL, argument, operation, detail)
