"""Linux's device for hypercalls from the control domain, /dev/xen/privcmd: number and layout.

Source: Linux, include/uapi/xen/privcmd.h. Arguments that Xen reads must stay where they are, so
they lie in pages of /dev/xen/hypercall (drivers/xen/privcmd-buf.c), not in ordinary memory.
"""

from struct import Struct
from typing import Final

PATH: Final = "/dev/xen/privcmd"
BUFFER_PATH: Final = "/dev/xen/hypercall"

IOCTL_PRIVCMD_HYPERCALL: Final = 0x305000

HYPERCALL: Final = Struct("<Q5Q")
"""privcmd_hypercall: op, five arguments. The ioctl's result is the hypercall's."""
