"""Programs: what is done to a World, step by step, in a language that knows no implementation.

A step is plain data, so that a program can be cut, printed and handed to C. Its bytes are what the
guest has at the address it gives; nothing is checked here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from activations.abi import event_channel as abi

from .world import Domain


class Kind(IntEnum):
    """What a step is. Those up to CONSUME are a vCPU's own, and wake it if it sleeps."""

    EVENT_CHANNEL_OP = 0
    """Hypercall 32. number: the command; data: the argument."""
    POLL = 1
    """SCHEDOP_poll. number: how many ports; data: the ports, u32, again from the first where there
    are fewer."""
    BLOCK = 2
    INTERRUPTS = 3
    """number: 1 to enable them, 0 to disable them."""
    STORE = 4
    """The guest changes 8 bytes of its memory. number: page << 16 | offset, where page 0 is
    shared_info and n + 1 is frame n; data: what to keep, u64, and what to flip then, u64."""
    CONSUME = 5
    """The guest handles its upcall: acknowledges it, clears upcall_pending and takes what is
    pending, as Linux does. number, on the two-level ABI: 1 to mask what it takes; on FIFO: at most
    so many events, the rest next time."""
    RAISE_VIRQ = 6
    """number: the VIRQ."""
    RAISE_GLOBAL_VIRQ = 7
    HANDLE_VIRQ = 8
    RAISE_PIRQ = 9
    LISTEN = 10
    """Xen takes a port of the domain's (8 at most). number: the domid of who may bind to it."""
    NOTIFY = 11
    """number: which of the ports that Xen listens at, modulo how many there are."""
    SILENCE = 12
    PAUSE = 13
    UNPAUSE = 14
    SUSPEND = 15
    DESTROY = 16
    WAKE = 17
    """The timeout of a poll came. In no program: a guest's step does it where it is asleep."""


LAST_OF_A_GUEST = Kind.CONSUME


class Step(NamedTuple):
    kind: Kind
    domain: int
    vcpu: int
    number: int = 0
    data: bytes = b""


class Program(NamedTuple):
    domains: tuple[Domain, ...]
    frames: int
    """How many each domain has, besides shared_info."""
    steps: Sequence[Step]
    thorough: bool = False
    """All ports' states are looked at after every step, and not those alone that Xen changed."""


_STEP = struct.Struct("<BBBBI32s")
"""struct step in oracle.c."""


def encoded(steps: Sequence[Step]) -> bytes:
    """The steps as oracle.c reads them."""
    return b"".join(
        [
            _STEP.pack(kind, domain, vcpu, len(data), number & 0xFFFF_FFFF, data)
            for kind, domain, vcpu, number, data in steps
        ]
    )


def header() -> str:
    """The kinds of steps, for oracle.c."""
    kinds = [f"STEP_{kind.name} = {kind.value}," for kind in Kind]
    return "\n".join(["enum {", *kinds, f"STEP_LAST_OF_A_GUEST = {LAST_OF_A_GUEST.value},", "};\n"])


# How steps read

_FIELDS = {
    0: (abi.BIND_INTERDOMAIN, "remote_dom remote_port local_port"),
    1: (abi.BIND_VIRQ, "virq vcpu port"),
    2: (abi.BIND_PIRQ, "pirq flags port"),
    3: (abi.CLOSE, "port"),
    4: (abi.SEND, "port"),
    5: (abi.STATUS, "dom port status vcpu u v"),
    6: (abi.ALLOC_UNBOUND, "dom remote_dom port"),
    7: (abi.BIND_IPI, "vcpu port"),
    8: (abi.BIND_VCPU, "port vcpu"),
    9: (abi.UNMASK, "port"),
    10: (abi.RESET, "dom"),
    11: (abi.INIT_CONTROL, "gfn offset vcpu link_bits"),
    12: (abi.EXPAND_ARRAY, "gfn"),
    13: (abi.SET_PRIORITY, "port priority"),
    14: (abi.RESET, "dom"),
}
_NAMES = (
    *("bind_interdomain", "bind_virq", "bind_pirq", "close", "send", "status", "alloc_unbound"),
    *("bind_ipi", "bind_vcpu", "unmask", "reset", "init_control", "expand_array", "set_priority"),
    "reset_cont",
)


def command_name(command: int) -> str:
    return _NAMES[command] if 0 <= command < len(_NAMES) else f"command {command}"


def read_argument(command: int, argument: bytes) -> str:
    """The fields of a command's structure, or the bytes where they are too few."""
    structure, names = _FIELDS.get(command, (None, ""))
    if structure is None or len(argument) < structure.size:
        return f"[{argument.hex(' ', -4)}]"
    values = zip(names.split(), structure.unpack_from(argument), strict=True)
    return " ".join(f"{name}={_number(value)}" for name, value in values)


def read(step: Step) -> str:
    """One line: d1v0 bind_virq virq=0 vcpu=0 port=0."""
    kind, domain, vcpu, number, data = step
    who = f"d{domain}v{vcpu}"
    match kind:
        case Kind.EVENT_CHANNEL_OP:
            return f"{who} {command_name(number)} {read_argument(number, data)}"
        case Kind.POLL:
            return f"{who} poll {number} ports {list(struct.unpack(f'<{len(data) // 4}I', data))}"
        case Kind.STORE:
            keep, flip = struct.unpack("<QQ", data)
            page, offset = number >> 16, number & 0xFFFF
            where = "shared_info" if page == 0 else f"frame {page - 1}"
            return f"{who} {where} at {offset:#x}: & {keep:#x} ^ {flip:#x}"
        case _:
            return f"{who} {kind.name.lower()} {number}"


def _number(value: int) -> str:
    return str(value) if value < 100_000 else f"{value:#x}"
