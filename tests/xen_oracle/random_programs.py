"""Random programs, valid and invalid, bent towards the states where faults hide.

Each begins with one of the scenes below, which bring a World quickly where chance seldom goes: a
table that grows, channels that are connected, a FIFO with pages, priorities and events in it.
What follows is any step at all, with small numbers preferred: so it meets what is there.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence, Set

from activations.abi import event_channel as abi

from .program import Kind, Program, Step
from .world import PAGE_SIZE, PIRQS, Delivery, Domain

LENGTH = 250
"""Steps of a program besides those of its scene."""
FRAMES = 8
FRAMES_OF_A_LONG_ARRAY = 140
ONE_IN_THOROUGH = 64

_LIMITS = (1023, 1023, 1023, 5, 1, 70, 4095, 4096, 131071)
_VCPUS = (1, 1, 2, 4)
_DELIVERIES: tuple[Delivery, ...] = ("vector", "vector", "callback", "pv")
_SELF = abi.DOMID_SELF
_ALL = 2**64 - 1
_ODD_PORTS = (
    *(15, 31, 62, 63, 64, 65, 70, 71, 99, 127, 128, 255, 1022, 1023, 1024, 1025, 4095, 4096, 4097),
    *(131071, 131072, 2**31 - 1, 2**31, 2**32 - 1),
)
_ODD_DOMIDS = (4, 7, 0x7FF1, 0x7FF2, 0x7FF4, 0x7FFF, 0x8000, 0xFFFF)
_ODD_VCPUS = (4, 31, 32, 63, 64, 127, 128, 2**31, 2**32 - 1)
_ODD_FRAMES = (FRAMES, FRAMES_OF_A_LONG_ARRAY, 160, 2**32, 2**40, 2**64 - 1)
_ODD_OFFSETS = (4, 4024, 4025, 4028, 4032, 4088, 4096, 2**31, 2**32 - 8)
_OFTEN = {0: 6, 1: 3, 2: 1, 3: 5, 4: 14, 5: 4, 6: 6, 7: 2, 8: 3, 9: 8, 13: 3}
"""Commands, and how often each is to come."""
_COMMANDS = [command for command, often in _OFTEN.items() for _ in range(often)]
_SELDOM = (10, 10, 11, 11, 11, 12, 12, 12, 14, 15, 16, 100, 2**31 - 1, 2**31, 2**32 - 1)


def program(seed: int, without: Set[Kind] = frozenset()) -> Program:
    """The program of this number: always the same. No step is of a kind in `without`."""
    return Writer(random.Random(seed), without).program()


def programs(seed: int, without: Set[Kind] = frozenset()) -> Iterator[Program]:
    """Programs without end."""
    return (program(seed * 1_000_000_007 + n, without) for n in range(2**62))


class Writer:
    """Writes one program."""

    def __init__(self, rng: random.Random, without: Set[Kind]) -> None:
        self.rng = rng
        self._seldom_kinds = [kind for kind in _SELDOM_KINDS if kind not in without]
        self.random = rng.random
        self.frames = FRAMES
        self.few = rng.choice((3, 6, 10, 20))
        """Ports below this are what steps are mostly about."""

    def program(self) -> Program:
        rng = self.rng
        scene = rng.choice(SCENES)
        self.domains = tuple(
            Domain(rng.choice(_VCPUS), rng.choice(_LIMITS), rng.choice(_DELIVERIES))
            for _ in range(rng.choice((1, 2, 3, 3, 3, 4)))
        )
        long_array = scene is _fifo and rng.random() < 0.01
        self.frames = FRAMES_OF_A_LONG_ARRAY if long_array else FRAMES
        steps = list(scene(self))
        if long_array:
            steps += _long_array(self)
        steps += self.any_steps()
        if scene is _fifo and rng.random() < 0.3:  # what of a FIFO outlives a reset?
            everybody = range(len(self.domains))
            steps += [self.op(n, abi.Op.RESET, abi.RESET.pack(_SELF)) for n in everybody]
            steps += scene(self)
        steps += self.any_steps()
        thorough = not long_array and rng.randrange(ONE_IN_THOROUGH) == 0
        return Program(self.domains, self.frames, steps, thorough)

    # Any step

    def any_steps(self) -> list[Step]:
        return [self.step() for _ in range(LENGTH // 2)]

    def step(self) -> Step:
        r = self.random()
        domain = int(self.random() * len(self.domains))
        vcpu = int(self.random() * self.domains[domain].vcpus)
        if r < 0.70:
            return self.hypercall(domain, vcpu)
        if r < 0.79:
            return self.store(domain, vcpu)
        if r < 0.87:
            return Step(Kind.CONSUME, domain, vcpu, int(self.random() * 4))
        if r < 0.92:
            return Step(Kind.RAISE_VIRQ, domain, vcpu, self._virq())
        if r < 0.95:
            return self.poll(domain, vcpu)
        return self._seldom(domain, vcpu)

    def hypercall(self, domain: int, vcpu: int) -> Step:
        command = self._command()
        return Step(Kind.EVENT_CHANNEL_OP, domain, vcpu, command, self._argument(command))

    def _seldom(self, domain: int, vcpu: int) -> Step:
        rng = self.rng
        kind = rng.choice(self._seldom_kinds)
        number = 0
        match kind:
            case Kind.INTERRUPTS:
                number = rng.randrange(2)
            case Kind.RAISE_PIRQ:
                number = rng.choice((0, 1, 2, PIRQS - 1))
            case Kind.LISTEN:
                number = self.domid()
            case Kind.NOTIFY | Kind.SILENCE:
                number = rng.randrange(8)
            case Kind.HANDLE_VIRQ:
                number = rng.choice((2, 2, 2, 3, 3, 3, *range(25), 2**31))
            case Kind.RAISE_GLOBAL_VIRQ:
                number = rng.choice(_GLOBAL)
            case Kind.SUSPEND | Kind.DESTROY:
                if rng.random() < 0.8 or domain == 0:
                    return Step(Kind.BLOCK, domain, vcpu)
        return Step(kind, domain, vcpu, number)

    def poll(self, domain: int, vcpu: int) -> Step:
        many = self.rng.choice((1, 1, 1, 1, 0, 2, 3, 8, 128, 129))
        ports = [self.port() for _ in range(min(many, 8))]
        return Step(Kind.POLL, domain, vcpu, many, struct.pack(f"<{len(ports)}I", *ports))

    def store(self, domain: int, vcpu: int) -> Step:
        """Eight bytes of its own that a guest spoils, or sets as it should."""
        rng = self.rng
        if rng.random() < 0.5:
            page, at = 0, rng.choice(_SHARED)
            if at < abi.EVTCHN_PENDING:
                at += abi.VCPU_INFO_SIZE * vcpu
            if at % abi.VCPU_INFO_SIZE == 0 and at < abi.EVTCHN_PENDING:  # upcall_pending, _mask
                keep, flip = _ALL ^ 0xFFFF, rng.choice((0, 1, 0x100, 0x101, 0xFF))
            else:
                keep = rng.choice((_ALL, 0))
                flip = rng.getrandbits(64) & (rng.getrandbits(64) if keep else 0x3FE)
        else:
            page = 1 + rng.randrange(min(self.frames, 6))
            at = 4 * rng.randrange(20)
            keep = rng.choice((_ALL, _ALL ^ 0xFFFF_FFFF, _ALL ^ 0x1FFFF))
            flip = rng.choice((0, self.port() & 0x1FFFF)) | rng.getrandbits(4) << 28
            flip = rng.choice((flip, flip, 1 << 30, rng.getrandbits(32)))
        return Step(Kind.STORE, domain, vcpu, page << 16 | at, struct.pack("<QQ", keep, flip))

    # What a hypercall is about

    def _command(self) -> int:
        if self.random() < 0.04:
            return self.rng.choice(_SELDOM)
        return _COMMANDS[int(self.random() * len(_COMMANDS))]

    def _argument(self, command: int) -> bytes:
        data = self.whole_argument(command)
        r = self.random()
        if r < 0.01:
            return data[: int(self.random() * len(data))]
        return data + b"\x5a\x5a\x5a\x5a" if r > 0.99 and len(data) < 28 else data

    def whole_argument(self, command: int) -> bytes:
        rng = self.rng
        junk = rng.getrandbits(32)
        match command:
            case 0:
                return INTERDOMAIN.pack(self.domid(), junk & 0xFFFF, self.port(), junk)
            case 1:
                virq = self._virq() if self.random() < 0.95 else rng.choice((24, 31, junk))
                return abi.BIND_VIRQ.pack(virq, self._vcpu(), junk)
            case 2:
                pirq = rng.choice((0, 1, 2, PIRQS - 1, PIRQS, 2**32 - 1))
                return abi.BIND_PIRQ.pack(pirq, junk & 1, junk)
            case 3 | 4 | 9:
                return abi.CLOSE.pack(self.port())
            case 5:
                return STATUS.pack(self.domid(), junk & 0xFFFF, self.port(), *[junk] * 4)
            case 6:
                return abi.ALLOC_UNBOUND.pack(self.domid(), self.domid(), junk)
            case 7:
                return abi.BIND_IPI.pack(self._vcpu(), junk)
            case 8:
                return abi.BIND_VCPU.pack(self.port(), self._vcpu())
            case 10 | 14:
                return abi.RESET.pack(self.domid())
            case 11:
                offset = rng.choice((0, 0, 128, 256, 1024, *_ODD_OFFSETS))
                return _INIT_CONTROL.pack(self._frame(), offset, self._vcpu(), junk, junk)
            case 12:
                return abi.EXPAND_ARRAY.pack(self._frame())
            case 13:
                priority = int(self.random() * 17) if self.random() < 0.98 else junk
                return abi.SET_PRIORITY.pack(self.port(), priority)
            case _:
                return rng.randbytes(24)

    def port(self) -> int:
        if self.random() < 0.93:
            return int(self.random() * self.few)
        return self.rng.choice(_ODD_PORTS)

    def domid(self) -> int:
        r = self.random()
        if r < 0.30:
            return _SELF
        return int(self.random() * 4) if r < 0.95 else self.rng.choice(_ODD_DOMIDS)

    def _vcpu(self) -> int:
        r = self.random()
        if r < 0.5:
            return 0
        return int(self.random() * 4) if r < 0.95 else self.rng.choice(_ODD_VCPUS)

    def _virq(self) -> int:
        """Two of each vCPU's own and two global ones, so that they are met again; or any."""
        return int(self.random() * (4 if self.random() < 0.6 else 24))

    def _frame(self) -> int:
        few = int(self.random() * self.frames)
        return few if self.random() < 0.9 else self.rng.choice(_ODD_FRAMES)

    # For scenes

    def op(self, domain: int, command: int, data: bytes, vcpu: int = 0) -> Step:
        return Step(Kind.EVENT_CHANNEL_OP, domain, vcpu, command, data)

    def named(self, domain: int) -> int:
        """The domid by which others name it."""
        return domain

    def any_domain(self) -> int:
        return self.rng.randrange(len(self.domains))


# Scenes


def _empty(_: Writer) -> Iterator[Step]:
    return iter(())


def _many(writer: Writer) -> Iterator[Step]:
    """A table just before, or after, it grows."""
    domain = writer.any_domain()
    for _ in range(writer.rng.choice((62, 63, 64, 126, 127, 128, 130))):
        yield writer.op(domain, abi.Op.BIND_IPI, abi.BIND_IPI.pack(0, 0))


def _connected(writer: Writer) -> Iterator[Step]:
    """Channels between domains, or of a domain with itself, and all sorts of others."""
    rng = writer.rng
    free = [1] * len(writer.domains)
    for _ in range(rng.randrange(1, 8)):
        one, other = writer.any_domain(), writer.any_domain()
        port = free[one]
        free[one] += 1
        free[other] += 1
        yield writer.op(
            one, abi.Op.ALLOC_UNBOUND, abi.ALLOC_UNBOUND.pack(_SELF, writer.named(other), 0)
        )
        yield writer.op(
            other, abi.Op.BIND_INTERDOMAIN, abi.BIND_INTERDOMAIN.pack(writer.named(one), port, 0)
        )
    for domain, of in enumerate(writer.domains):
        vcpu = rng.randrange(of.vcpus)
        yield writer.op(domain, abi.Op.BIND_IPI, abi.BIND_IPI.pack(vcpu, 0))
        yield writer.op(domain, abi.Op.BIND_VIRQ, abi.BIND_VIRQ.pack(rng.randrange(2), vcpu, 0))
        yield writer.op(domain, abi.Op.BIND_VIRQ, abi.BIND_VIRQ.pack(rng.choice(_GLOBAL), 0, 0))


def _fifo(writer: Writer) -> Iterator[Step]:
    """Domains on FIFO, with channels that were connected before or after."""
    rng = writer.rng
    early = rng.random() < 0.3
    if early:
        yield from _connected(writer)
    for domain, of in enumerate(writer.domains):
        if rng.random() < 0.2:
            continue
        for vcpu in range(of.vcpus):
            if rng.random() < 0.95:
                argument = _INIT_CONTROL.pack(0, 128 * vcpu, vcpu, 0, 0)
                yield writer.op(domain, abi.Op.INIT_CONTROL, argument)
        for page in range(1, 1 + rng.choice((1, 1, 2, 3, 0))):
            yield writer.op(domain, abi.Op.EXPAND_ARRAY, abi.EXPAND_ARRAY.pack(page))
    if not early:
        yield from _connected(writer)
    for domain in range(len(writer.domains)):
        for port in range(1, 1 + rng.randrange(8)):
            argument = abi.SET_PRIORITY.pack(port, rng.randrange(16))
            yield writer.op(domain, abi.Op.SET_PRIORITY, argument)


def _long_array(writer: Writer) -> Iterator[Step]:
    """An event array of all its pages and one more, ports beyond the first of them."""
    for frame in range(4, 4 + 129):
        yield writer.op(0, abi.Op.EXPAND_ARRAY, abi.EXPAND_ARRAY.pack(frame))
    for _ in range(1100):
        yield writer.op(0, abi.Op.BIND_IPI, abi.BIND_IPI.pack(0, 0))
    for port in (1023, 1024, 1025, 1099):
        yield writer.op(0, abi.Op.SEND, abi.SEND.pack(port))


SCENES: Sequence[Callable[[Writer], Iterator[Step]]] = (
    *(_empty, _many, _connected, _connected, _fifo, _fifo, _fifo),
)
_GLOBAL = (2, 2, 3, 3, 4, 5, 11, 14, 23)
_SELDOM_KINDS = (
    *(Kind.INTERRUPTS, Kind.INTERRUPTS, Kind.INTERRUPTS, Kind.BLOCK, Kind.BLOCK, Kind.RAISE_PIRQ),
    *(Kind.RAISE_GLOBAL_VIRQ, Kind.RAISE_GLOBAL_VIRQ, Kind.HANDLE_VIRQ, Kind.HANDLE_VIRQ),
    *(Kind.LISTEN, Kind.LISTEN),
    *(Kind.NOTIFY, Kind.NOTIFY, Kind.SILENCE, Kind.PAUSE, Kind.UNPAUSE, Kind.SUSPEND, Kind.DESTROY),
)
_SHARED = (
    *(abi.UPCALL_PENDING, abi.UPCALL_PENDING, abi.PENDING_SEL, abi.PENDING_SEL),
    *(start + 8 * word for start in (abi.EVTCHN_PENDING, abi.EVTCHN_MASK) for word in (0, 0, 0, 1)),
    *(start + 8 * word for start in (abi.EVTCHN_PENDING, abi.EVTCHN_MASK) for word in (15, 63)),
)
INTERDOMAIN = struct.Struct("<HHII")
STATUS = struct.Struct("<HHIIIII")
_INIT_CONTROL = struct.Struct("<QIIII")
assert PAGE_SIZE == 4096
