"""The contract of a lower half: what an event loop, or a plain program, asks of a kernel.

A kernel is a guest's event code on one vCPU. It is written against `Platform`: a processor, memory
and hypercalls. The order in which it is asked:

    start()                 once, and again after a suspend: register for upcalls
    upcall()                entered by the processor, wherever interrupts are enabled
    demux()                 which ports fired; each comes back masked, with its pending bit cleared
    unmask(ports)           let these fire again; what came meanwhile fires at once
    mask(port)              hold a port back
    bound(port), closed(port)   a port of this vCPU's came, or went
    block(deadline)         sleep until an event or the deadline, and lose no wake-up on the way

Python may raise an exception out of a signal handler anywhere in a kernel. So what a demux took
is kept in `taken` until `unmask` is given that very list, and a scan that is broken off leaves the
guest's flags as if all words were to be looked at again: an event is found twice at worst.

The wake invariant is `block`'s to keep: between its last look for events and the processor's sleep
no upcall may be taken, since the sleep would go on after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from activations.abi.event_channel import EVTCHN_MASK, MAX_PORTS_2L
from xen_sim.guests.hypercalls import Hypercalls
from xen_sim.guests.platform import Platform
from xen_sim.guests.upcalls import KINDS, Upcalls
from xen_sim.hardware.cpu import CPU
from xen_sim.hardware.memory import BIT, Lock, Words
from xen_sim.shared_info import VcpuInfo

ALL_BITS = (1 << 64) - 1


class Kernel(ABC):
    """One vCPU's event code."""

    name: ClassVar[str]
    """By which `--guest` names it."""
    multiprocessor: ClassVar[bool] = False
    """Whether it keeps the ports of one vCPU from those of another."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.cpu: CPU = platform.cpu
        self.xen: Hypercalls = platform.xen
        self.lock: Lock = platform.lock
        self.info: VcpuInfo = platform.vcpu_info()
        self.upcalls: Upcalls = KINDS[platform.delivery](platform, self.info)
        self.taken: list[int] = []
        """Ports that a demux has given out and that are not unmasked yet."""

    def start(self) -> None:
        """Register for upcalls and enable them. Nothing is bound yet."""
        self.prepare()
        self.upcalls.register(self.upcall)
        self.upcalls.begin()

    def prepare(self) -> None:
        """What has to be so before the first upcall can come."""

    @abstractmethod
    def upcall(self) -> None:
        """The handler. It runs on the interrupted vCPU, with upcalls disabled."""

    @abstractmethod
    def demux(self) -> Sequence[int]:
        """The ports that fired, each masked, its pending bit cleared."""

    @abstractmethod
    def mask(self, port: int) -> None:
        """Hold a port back: one event of those that come is kept."""

    def unmask(self, ports: Sequence[int]) -> None:
        """Let these ports fire again; one that became pending meanwhile fires at once."""
        for port in ports:
            self.unmask_port(port)
        if ports is self.taken:
            self.taken.clear()

    @abstractmethod
    def unmask_port(self, port: int) -> None:
        """Let one port fire again."""

    def bound(self, port: int) -> None:
        """This vCPU is told of this port from now on. It is masked, or never was used."""

    def closed(self, port: int) -> None:
        """The port is about to be closed."""

    @abstractmethod
    def block(self, deadline: int | None) -> None:
        """Sleep until an event or the deadline (absolute ns; None for no end)."""

    def idle(self) -> None:
        """What a vCPU does that has no program: take events as they come, for good."""
        self.start()
        while True:
            self.unmask(self.demux())
            self.block(None)


class TwoLevelKernel(Kernel):
    """What kernels on the two-level ABI have in common: the words, and masking."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        words = platform.event_words()
        self.pending: Words = words.pending
        self.masks: Words = words.mask
        self.upcall_pending: Words = self.info.upcall_pending
        self.pending_sel: Words = self.info.pending_sel

    def prepare(self) -> None:
        """A port is masked until it is bound: all at once, since it is not looked at yet."""
        if self.platform.vcpu == 0:
            every = slice(EVTCHN_MASK, EVTCHN_MASK + MAX_PORTS_2L // 8)
            self.platform.shared_info.bytes[every] = b"\xff" * (MAX_PORTS_2L // 8)

    def mask(self, port: int) -> None:
        self.lock.bts(self.masks, port >> 6, port & 63)

    def look_again(self) -> None:
        """A scan was broken off: the next one is to look everywhere."""
        self.pending_sel[0] = ALL_BITS
        self.upcall_pending[0] = 1

    def is_pending(self, port: int) -> bool:
        """Whether the port's pending bit is set."""
        return self.pending[port >> 6] & BIT[port & 63] != 0
