"""The lower half on a real Xen: /dev/xen of the Linux domain this process runs in.

`backend` is what the entry point names. The devices can be used on their own, without a loop:
`EventDevice`, `GrantDevice`, `GrantAllocator`, `Hypercalls`.
"""

from xen_linux.backend import backend
from xen_linux.evtchn import EventDevice
from xen_linux.gntalloc import GrantAllocator
from xen_linux.gntdev import GrantDevice
from xen_linux.lower import LinuxLowerHalf
from xen_linux.privcmd import Hypercalls, PortStatus

__all__ = [
    "EventDevice",
    "GrantAllocator",
    "GrantDevice",
    "Hypercalls",
    "LinuxLowerHalf",
    "PortStatus",
    "backend",
]


def __dir__() -> list[str]:
    return __all__
