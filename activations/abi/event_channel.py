"""Event channels, and the page they live in under the two-level ABI.

Sources: xen/include/public/event_channel.h and xen/include/public/xen.h.
"""

from enum import IntEnum
from struct import Struct

MAX_PORTS_2L = 4096
"""EVTCHN_2L_NR_CHANNELS: 64 words of 64 ports."""

MAX_PORTS_DEFAULT = 1023
"""A domain's `max_event_channels`, unless its configuration says otherwise."""

BITS_PER_WORD = 64


class Op(IntEnum):
    """EVTCHNOP_*: the commands of hypercall 32."""

    BIND_INTERDOMAIN = 0
    BIND_VIRQ = 1
    BIND_PIRQ = 2
    CLOSE = 3
    SEND = 4
    STATUS = 5
    ALLOC_UNBOUND = 6
    BIND_IPI = 7
    BIND_VCPU = 8
    UNMASK = 9
    RESET = 10
    INIT_CONTROL = 11
    EXPAND_ARRAY = 12
    SET_PRIORITY = 13
    RESET_CONT = 14
    """A reset that was interrupted goes on; Xen itself makes this one."""


class Status(IntEnum):
    """EVTCHNSTAT_*: what a port is bound to."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5


class Virq(IntEnum):
    """VIRQ_*: interrupts that Xen itself raises."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2
    DOM_EXC = 3
    TBUF = 4
    DEBUGGER = 6
    XENOPROF = 7
    CON_RING = 8
    PCPU_STATE = 9
    MEM_EVENT = 10
    ARGO = 11
    ENOMEM = 12
    XENPMU = 13


NR_VIRQS = 24
PER_VCPU_VIRQS = frozenset({Virq.TIMER, Virq.DEBUG, Virq.XENOPROF, Virq.XENPMU})
"""VIRQs that each vCPU has of its own. Xen's `virq_is_global` counts all others as global."""
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
"""Stands for the calling domain in every argument that takes a domid."""

# struct evtchn_*: the hypercall's arguments, little-endian with the compiler's padding.
BIND_INTERDOMAIN = Struct("<HxxII")
BIND_VIRQ = Struct("<III")
BIND_PIRQ = Struct("<III")
CLOSE = Struct("<I")
SEND = Struct("<I")
STATUS = Struct("<HxxIIIII")
ALLOC_UNBOUND = Struct("<HHI")
BIND_IPI = Struct("<II")
BIND_VCPU = Struct("<II")
UNMASK = Struct("<I")
RESET = Struct("<H")
INIT_CONTROL = Struct("<QIIB7x")
EXPAND_ARRAY = Struct("<Q")
SET_PRIORITY = Struct("<II")

FIFO_MAX_OFFSET = 4024
"""The last place in a page where a FIFO control block of 72 bytes fits."""
FIFO_LOWEST_PRIORITY = 15

# struct shared_info: byte offsets. vcpu_info[32], 64 bytes each, lies at its start.
SHARED_INFO_SIZE = 3136
VCPU_INFO_SIZE = 64
UPCALL_PENDING = 0
"""vcpu_info.evtchn_upcall_pending, u8."""
UPCALL_MASK = 1
"""vcpu_info.evtchn_upcall_mask, u8; PV guests alone use it."""
PENDING_SEL = 8
"""vcpu_info.evtchn_pending_sel, u64: which words of evtchn_pending to look at."""
EVTCHN_PENDING = 0x800
"""shared_info.evtchn_pending: 64 words of u64."""
EVTCHN_MASK = 0xA00
"""shared_info.evtchn_mask: 64 words of u64."""

# The FIFO ABI.
MAX_PORTS_FIFO = 1 << 17
"""EVTCHN_FIFO_NR_CHANNELS."""
FIFO_LINK_BITS = 17
FIFO_PENDING = 31
"""EVTCHN_FIFO_PENDING and so on: bits of an event word. Bits 0 to 16 are the link."""
FIFO_MASKED = 30
FIFO_LINKED = 29
FIFO_BUSY = 28
FIFO_LINK_MASK = (1 << FIFO_LINK_BITS) - 1
FIFO_QUEUES = 16
"""EVTCHN_FIFO_MAX_QUEUES: one for each priority, 0 the highest."""
FIFO_DEFAULT_PRIORITY = 7
FIFO_WORDS_PER_PAGE = 1024
FIFO_MAX_PAGES = 128
