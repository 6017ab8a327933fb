"""Linux's event-channel device, /dev/xen/evtchn: ioctl numbers and layouts.

Source: Linux, include/uapi/xen/evtchn.h. The numbers are `_IOC(_IOC_NONE, 'E', nr, size)`, which
comes out the same on x86 and Arm. A read gives, and a write takes, an array of u32 ports.
"""

from struct import Struct
from typing import Final

PATH: Final = "/dev/xen/evtchn"

IOCTL_EVTCHN_BIND_VIRQ: Final = 0x44500
IOCTL_EVTCHN_BIND_INTERDOMAIN: Final = 0x84501
IOCTL_EVTCHN_BIND_UNBOUND_PORT: Final = 0x44502
IOCTL_EVTCHN_UNBIND: Final = 0x44503
IOCTL_EVTCHN_NOTIFY: Final = 0x44504
IOCTL_EVTCHN_RESET: Final = 0x4505
IOCTL_EVTCHN_RESTRICT_DOMID: Final = 0x24506
IOCTL_EVTCHN_BIND_STATIC: Final = 0x44507
"""Since Linux 6.7; older kernels answer ENOSYS."""

BIND_VIRQ: Final = Struct("<I")
"""ioctl_evtchn_bind_virq: virq. The ioctl's result is the port."""
BIND_INTERDOMAIN: Final = Struct("<II")
"""ioctl_evtchn_bind_interdomain: remote_domain, remote_port. The ioctl's result is the port."""
BIND_UNBOUND_PORT: Final = Struct("<I")
"""ioctl_evtchn_bind_unbound_port: remote_domain. The ioctl's result is the port."""
PORT: Final = Struct("<I")
"""ioctl_evtchn_unbind, ioctl_evtchn_notify, ioctl_evtchn_bind: port."""
RESTRICT_DOMID: Final = Struct("<H")
"""ioctl_evtchn_restrict_domid: domid."""

PORTS_PER_READ: Final = 1024
"""A read gives one page of ports at most (drivers/xen/evtchn.c, evtchn_read)."""
