"""A World in words, for who reads of a difference."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from errno import errorcode

from activations.abi import event_channel as abi

from .world import PAGE_SIZE, Buffer, World

_STATUS = struct.Struct("<HHIIIII")
_STATES = ("closed", "unbound for", "interdomain", "pirq", "virq", "ipi")
_WORD = ((31, "PENDING"), (30, "MASKED"), (29, "LINKED"), (28, "BUSY"))
_MOST_PORTS = 4096


def tell_result(result: int) -> str:
    return f"-{errorcode[-result]}" if -result in errorcode else str(result)


def tell_bytes(given: bytes | Buffer) -> str:
    return bytes(given).hex(" ", -4)


def tell_word(page: Buffer, at: int) -> str:
    return f"{int.from_bytes(page[at : at + 4], 'little'):#010x}"


def tell_where(domain: int, page: int, at: int) -> str:
    """What lies at a place of a guest's memory."""
    if page:
        return f"d{domain}'s frame {page - 1} at {at:#x}"
    if at >= abi.EVTCHN_MASK:
        what = f"evtchn_mask from port {(at - abi.EVTCHN_MASK) * 8}"
    elif at >= abi.EVTCHN_PENDING:
        what = f"evtchn_pending from port {(at - abi.EVTCHN_PENDING) * 8}"
    elif at % abi.VCPU_INFO_SIZE < abi.PENDING_SEL:
        what = f"evtchn_upcall_pending of vCPU {at // abi.VCPU_INFO_SIZE}"
    else:
        what = f"evtchn_pending_sel of vCPU {at // abi.VCPU_INFO_SIZE}"
    return f"d{domain}'s {what}"


def tell_state(xen: World, other: World, domains: Sequence[int]) -> str:
    """Both, domain by domain; what is the same is told once."""
    lines = []
    for domain in domains:
        ours, theirs = (list(_domain(world, domain)) for world in (xen, other))
        if ours == theirs:
            lines += [f"both, d{domain}: {line}" for line in ours]
        else:
            lines += [f"Xen's C, d{domain}: {line}" for line in ours]
            lines += [f"another, d{domain}: {line}" for line in theirs]
    return "\n".join(lines)


def _domain(world: World, domain: int) -> Iterator[str]:
    yield "ports: " + (", ".join(_ports(world, domain)) or "none")
    pages = world.memory(domain)
    shared = pages[0]
    for name, start in (("pending", abi.EVTCHN_PENDING), ("masked", abi.EVTCHN_MASK)):
        if bits := _bits(shared[start : start + 512]):
            yield f"{name}: {bits}"
    for vcpu in range(4):
        info = bytes(shared[vcpu * 64 : vcpu * 64 + 16])
        if any(info):
            selected = _bits(info[8:16])
            yield f"vCPU {vcpu}: upcall_pending {info[0]}, upcall_mask {info[1]}, sel {selected}"
    for number, page in enumerate(pages[1:]):
        words = struct.unpack(f"<{PAGE_SIZE // 4}I", page)
        if told := [f"{at}: {_word(word)}" for at, word in enumerate(words) if word]:
            more = f" and {len(told) - 24} more" if len(told) > 24 else ""
            yield f"frame {number}, words of 32 bits: {', '.join(told[:24])}{more}"


def _ports(world: World, domain: int) -> Iterator[str]:
    for port in range(1, _MOST_PORTS):
        argument = bytearray(_STATUS.pack(abi.DOMID_SELF, 0, port, 0, 0, 0, 0))
        result = world.event_channel_op(domain, 0, abi.Op.STATUS, argument)
        if result == -22:
            return
        _, _, _, status, vcpu, about, more = _STATUS.unpack(argument)
        if result:
            yield f"{port} {tell_result(result)}"
        elif status:
            state = _STATES[status] if status < len(_STATES) else str(status)
            peer = f"d{about & 0xFFFF} port {more}" if status == 2 else about & 0xFFFF
            yield f"{port} {state} {peer} vcpu {vcpu}"


def _bits(words: bytes | Buffer) -> list[int]:
    number = int.from_bytes(words, "little")
    return [bit for bit in range(len(words) * 8) if number >> bit & 1][:40]


def _word(word: int) -> str:
    flags = [name for bit, name in _WORD if word >> bit & 1]
    return "|".join([*flags, str(word & (1 << 28) - 1)])
