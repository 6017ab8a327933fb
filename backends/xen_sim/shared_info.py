"""struct shared_info and the FIFO ABI's pages: all that Xen and its guest know of each other.

Each side has views of its own on the same frame, plain or stepped; what one writes the other reads.

Sources: xen/include/public/xen.h and xen/include/public/event_channel.h.
"""

from __future__ import annotations

from activations.abi import event_channel as abi
from xen_sim.hardware.memory import PAGE_SIZE, Before, Frame, Words


class VcpuInfo:
    """struct vcpu_info: what concerns one vCPU. Each field is an array of one word."""

    __slots__ = ("pending_sel", "upcall_mask", "upcall_pending")

    def __init__(self, frame: Frame, vcpu: int, before: Before | None, owner: str = "") -> None:
        at = vcpu * abi.VCPU_INFO_SIZE
        of = owner + (f" of vcpu {vcpu}" if vcpu else "")
        self.upcall_pending: Words = frame.view(
            "evtchn_upcall_pending" + of, at + abi.UPCALL_PENDING, 1, "B", before
        )
        self.upcall_mask: Words = frame.view(
            "evtchn_upcall_mask" + of, at + abi.UPCALL_MASK, 1, "B", before
        )
        self.pending_sel: Words = frame.view(
            "evtchn_pending_sel" + of, at + abi.PENDING_SEL, 8, "Q", before
        )


class EventWords:
    """The two-level ABI's words: 64 of 64 ports each, of the whole domain."""

    __slots__ = ("mask", "pending")

    def __init__(self, frame: Frame, before: Before | None, owner: str = "") -> None:
        self.pending: Words = frame.view(
            "evtchn_pending" + owner, abi.EVTCHN_PENDING, 512, "Q", before
        )
        self.mask: Words = frame.view("evtchn_mask" + owner, abi.EVTCHN_MASK, 512, "Q", before)


class ControlBlock:
    """struct evtchn_fifo_control_block: which of a vCPU's queues have events, and their heads."""

    __slots__ = ("head", "ready")

    def __init__(self, frame: Frame, offset: int, before: Before | None, owner: str = "") -> None:
        self.ready: Words = frame.view("ready" + owner, offset, 4, "I", before)
        self.head: Words = frame.view("head" + owner, offset + 8, 64, "I", before)


def event_array(frame: Frame, before: Before | None, owner: str = "") -> Words:
    """A page of the FIFO ABI's event array: 1,024 words of 32 bits, one for each port."""
    return frame.view("event word" + owner, 0, PAGE_SIZE, "I", before)
