"""Random programs for the probe: those of xen_oracle with one domain, and steps of a processor.

What other domains of the machine have is not the programs' to know: of dom0 they name ports that
any dom0 has, or none has, and domains that there are not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from xen_oracle.program import Kind, Step
from xen_oracle.random_programs import INTERDOMAIN, SCENES, STATUS, Writer
from xen_oracle.world import PIRQS, Delivery, Domain

from activations.abi import event_channel as abi

from .steps import FRAMES, ProbeKind, Timer

LENGTH = 120
"""Steps of a program besides those of its scene."""
_SELF = abi.DOMID_SELF
_NOBODY = (0x6000, 0x7FEF, 0x7FF1, 0x7FF2, 0x7FFF, 0x8000, 0xFFFF)
"""Domids of no domain."""
_NO_PORTS = (131072, 2**31 - 1, 2**31, 2**32 - 1)
_NO_PIRQ = 100_000
"""How many physical interrupts a domain has depends on the machine."""
_IO_PORTS = (
    *(0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92),
    *(0xE9, 0x3F8, 0x3FD, 0x402, 0xCF8, 0xCFC, 0xB000),
)
_WRITTEN = (0x20, 0x21, 0xA0, 0xA1, 0x40, 0x43, 0x80, 0xE9, 0x3F8)
_MILLISECOND = 1_000_000
_KINDS = (
    *[Kind.INTERRUPTS] * 5,
    *[ProbeKind.HLT] * 3,
    *[ProbeKind.TIMER] * 3,
    *[ProbeKind.HANDLER] * 2,
    *[ProbeKind.EOI] * 3,
    *(Kind.BLOCK, ProbeKind.IN, ProbeKind.OUT, ProbeKind.UPCALL_VECTOR, ProbeKind.IS_UP),
)


class Guest(NamedTuple):
    """What a guest is created with, and how it has itself told of events."""

    vcpus: int = 1
    delivery: str = "vector"
    """`vector`, `callback`, or `none`."""
    max_event_channels: int = 1023
    peer: bool = False
    """Whether another guest grants it pages."""


GUESTS = (
    Guest(1, "vector"),
    Guest(1, "callback"),
    Guest(2, "vector"),
    Guest(2, "callback", 70),
    Guest(1, "none", 131_071),
)


Asked = tuple[Guest, Sequence[Step]]
"""What a guest is to do."""


def begin(vcpus: int) -> list[Step]:
    """What every program begins with."""
    return [Step(ProbeKind.BEGIN, 0, vcpu) for vcpu in range(vcpus)]


def programs(guest: Guest, seed: int) -> Iterator[list[Step]]:
    """Programs without end, the same for the same number."""
    for number in count(seed * 1_000_003):
        yield _Writer(random.Random(number), guest).steps()


def asked(guest: Guest, steps: int, seed: int) -> Asked:
    """As many of its programs as have so many steps."""
    some: list[Step] = []
    for program in programs(guest, seed):
        if len(some) >= steps:
            break
        some += program
    return guest, some


class _Writer(Writer):
    """Writes one program."""

    def __init__(self, rng: random.Random, guest: Guest) -> None:
        super().__init__(rng, frozenset())
        self._guest = guest
        delivery: Delivery = "callback" if guest.delivery == "callback" else "vector"
        self.domains = (Domain(guest.vcpus, guest.max_event_channels, delivery),)
        self.frames = FRAMES

    def steps(self) -> list[Step]:
        """From the first to the last."""
        scene = self.rng.choice(SCENES)
        steps = [*begin(self._guest.vcpus), *scene(self)]
        for _ in range(LENGTH):
            steps += self._demux() if self.random() < 0.06 else [self.step()]
        return steps

    def _demux(self) -> Iterator[Step]:
        """What is pending is taken, so that what comes next is announced."""
        vcpu = self.rng.randrange(self._guest.vcpus)
        at = abi.VCPU_INFO_SIZE * vcpu
        for where in (at + abi.UPCALL_PENDING, at + abi.PENDING_SEL, abi.EVTCHN_PENDING):
            yield Step(Kind.STORE, 0, vcpu, where, bytes(16))

    def step(self) -> Step:
        r = self.random()
        vcpu = self.rng.randrange(self._guest.vcpus)
        if r < 0.65:
            return self.hypercall(0, vcpu)
        if r < 0.76:
            return self.store(0, vcpu)
        if r < 0.80:
            return self.poll(0, vcpu)
        return self._of_the_processor(vcpu)

    def _of_the_processor(self, vcpu: int) -> Step:
        rng = self.rng
        kind = rng.choice(_KINDS)
        number, data = 0, b""
        match kind:
            case Kind.INTERRUPTS:
                number = int(rng.random() < 0.7)
            case ProbeKind.HANDLER:
                number = rng.randrange(4)
            case ProbeKind.IN:
                number = rng.choice(_IO_PORTS)
            case ProbeKind.OUT:
                number, data = rng.choice(_WRITTEN), bytes([rng.randrange(256)])
            case ProbeKind.UPCALL_VECTOR:
                number = 0x20 if self._guest.delivery == "vector" else 15
                number = rng.choice((0, 1, 15, number))
            case ProbeKind.IS_UP:
                number = rng.choice((0, 1, 2, 31, 32, 128))
            case ProbeKind.TIMER:
                number, ns = self._timer()
                data = struct.pack("<q", ns)
        return Step(kind, 0, vcpu, number, data)

    def _timer(self) -> tuple[Timer, int]:
        rng = self.rng
        timer = rng.choice([*Timer])
        soon = rng.choice((1, 1000, 200_000, _MILLISECOND))
        far = rng.choice((10**12, 2**50 - 10**9))
        match timer:
            case Timer.SET_AHEAD:  # what is negative in the end is taken for a mistake
                return timer, rng.choice((soon, soon, far))
            case Timer.ONCE_AHEAD:
                return timer, rng.choice((soon, soon, -1, -(10**12), far))
            case Timer.SET:
                return timer, rng.choice((0, 1, _MILLISECOND))
            case Timer.SET_MISTAKEN:
                if rng.random() < 0.9:  # each takes a tenth of a second
                    return Timer.SET_AHEAD, far
                return timer, rng.choice((-1, -(2**63), 2**50 + 10**9, 2**62))
            case Timer.ONCE:
                return timer, rng.choice((1, -1, -(2**63)))
            case Timer.EVERY:
                return timer, rng.choice((0, 1, _MILLISECOND - 1, _MILLISECOND, 2 * _MILLISECOND))
            case _:
                return timer, 1

    # Whom hypercalls are about

    def named(self, domain: int) -> int:
        return _SELF

    def domid(self) -> int:
        r = self.random()
        return _SELF if r < 0.85 else 0 if r < 0.95 else self.rng.choice(_NOBODY)

    def whole_argument(self, command: int) -> bytes:
        """Of dom0, no port but those that a domain always has a table for, or never."""
        data = super().whole_argument(command)
        if command == abi.Op.BIND_INTERDOMAIN:
            domid, junk, port, local = INTERDOMAIN.unpack(data)
            if domid == 0:
                port = self.rng.choice((0, *_NO_PORTS))
            data = INTERDOMAIN.pack(domid, junk, port, local)
        if command == abi.Op.STATUS:
            domid, junk, port, *rest = STATUS.unpack(data)
            if domid == 0:
                port = self.rng.choice((0, 1, 63, *_NO_PORTS))
            data = STATUS.pack(domid, junk, port, *rest)
        if command == abi.Op.BIND_PIRQ:
            pirq, *rest = abi.BIND_PIRQ.unpack(data)
            data = abi.BIND_PIRQ.pack(pirq if pirq < PIRQS else _NO_PIRQ, *rest)
        return data

    def store(self, domain: int, vcpu: int) -> Step:
        """evtchn_upcall_mask is not for guests of this kind."""
        step = super().store(domain, vcpu)
        if step.number % abi.VCPU_INFO_SIZE or step.number >= abi.EVTCHN_PENDING:
            return step
        keep, flip = struct.unpack("<QQ", step.data)
        return step._replace(data=struct.pack("<QQ", keep, flip & ~0xFF00))
