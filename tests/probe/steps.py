"""Steps: those of xen_oracle that a guest takes itself, and those that take a processor.

kernel/programs.c and simulated.py do the same for each. All are one vCPU's own.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from xen_oracle.program import Kind, Step, read

from activations.abi.grant_table import RESERVED_ENTRIES

SLOTS = 160
"""Pages at which a guest maps grants: more than Xen maps of one reference."""
PEER, OWN = 0xFFF0, 0xFFF1
"""In a program, the domids of the guest that grants and of the one that has the program."""
FIRST_REF = RESERVED_ENTRIES + 1 + 8
"""The first reference of the other's that is a program's: those before are the toolstack's, and its
grant table and frames."""
RAW_HANDLE = 256
"""Added to a handle that is meant as it is; below, it is the one given for a slot."""
NO_ADDRESS, NOT_MAPPED = SLOTS, SLOTS + 1
"""Addresses besides those of slots: 0, and a page of its own."""
COPY = struct.Struct("<IHHIHHHHh")
"""struct gnttab_copy with frames of 32 bits: source, domid, offset; destination, domid, offset;
length, flags, status."""
FRAMES = 8
"""Pages of its own that a guest can hand to Xen. Their numbers in a program are 0 to 7."""


class ProbeKind(IntEnum):
    """What a step is, besides those of xen_oracle."""

    BEGIN = 32
    """As new: no port, no event, no timer, nothing requested or in service, interrupts off."""
    HLT = 33
    """`sti; hlt`, and a window for interrupts behind it."""
    TIMER = 34
    """number: a `Timer`; data: nanoseconds, s64. A timer that fires soon is waited for."""
    HANDLER = 35
    """What the upcall's handler does. number: 1 an EOI, 2 it clears evtchn_upcall_pending."""
    EOI = 36
    IN = 37
    """number: the I/O port."""
    OUT = 38
    """number: the I/O port; data: the byte."""
    UPCALL_VECTOR = 39
    """HVMOP_set_evtchn_upcall_vector. number: the vector."""
    IS_UP = 40
    """VCPUOP_is_up. number: the vCPU."""
    GRANT_TABLE_OP = 41
    """Hypercall 20. number: count << 16 | command, where 0xFFFF is the highest count; data: the
    structure, of a copy a short form (`COPY`)."""
    GRANT_ENTRY = 42
    """An entry is written. number: the reference, 1 << 16 for its flags alone, 1 << 17 for the
    guest's own table; data: an `abi.ENTRY`."""
    MAPPED_STORE = 43
    """As STORE, of a slot's page. number: slot << 16 | offset. Where nothing is mapped, ENOENT."""
    MAPPED_LOAD = 44
    """The result is 31 bits of the word."""


OF_GRANTS = (
    *(ProbeKind.GRANT_TABLE_OP, ProbeKind.GRANT_ENTRY),
    *(ProbeKind.MAPPED_STORE, ProbeKind.MAPPED_LOAD),
)
"""Steps that other programs have: grants.py."""


class Timer(IntEnum):
    """What a TIMER step does with its nanoseconds."""

    SET_AHEAD = 0
    """set_timer_op, so long from now."""
    SET = 1
    """set_timer_op, a deadline as it is given; 0 stops the timer."""
    SET_MISTAKEN = 2
    """set_timer_op with what Xen takes for a mistake: negative, or so far from now."""
    ONCE_AHEAD = 3
    """VCPUOP_set_singleshot_timer, so long from now."""
    ONCE = 4
    ONCE_OF_ANOTHER = 5
    """The same for the other vCPU, of 0 and 1."""
    ONCE_STOP = 6
    EVERY = 7
    """VCPUOP_set_periodic_timer, for one period, and stopped then."""


COMMON = (Kind.EVENT_CHANNEL_OP, Kind.POLL, Kind.BLOCK, Kind.INTERRUPTS, Kind.STORE)


def header() -> str:
    """The kinds of steps, for programs.c."""
    kinds = [f"STEP_{kind.name} = {kind.value}," for kind in (*COMMON, *ProbeKind)]
    constants = [f"SLOTS = {SLOTS},", f"PEER = {PEER},", f"OWN = {OWN},"]
    timers = [f"TIMER_{timer.name} = {timer.value}," for timer in Timer]
    return "\n".join(["enum {", *kinds, *timers, *constants, "};\n"])


def tell(step: Step) -> str:
    """A step in one line, without its domain."""
    kind, _, vcpu, number, data = step
    match kind:
        case ProbeKind.TIMER:
            return f"v{vcpu} timer {Timer(number).name.lower()} {struct.unpack('<q', data)[0]}"
        case ProbeKind.OUT:
            return f"v{vcpu} out {number:#x} {data[0]:#x}"
        case ProbeKind():
            return f"v{vcpu} {kind.name.lower()} {number:#x}"
        case _:
            return read(step).removeprefix("d0")
