"""What facts are written with: a domain seen from within, and `fact`, which notes one.

`op` gives the fields of the structure after the call, or the errno (negative) where it was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op

from ..world import Domain, World

JUNK = 0xEEEE_EEEE
"""In fields that are results: what Xen leaves alone keeps it."""
SELF = abi.DOMID_SELF
TIMER, DEBUG, CONSOLE, DOM_EXC = 0, 1, 2, 3
CLOSED, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI = range(6)
PENDING, MASKED, LINKED = 1 << 31, 1 << 30, 1 << 29
BUCKET = 64
"""Ports that a table begins with, and grows by."""
RESET_CONT = 14
_STATUS = Struct("<HHIIIII")
_INTERDOMAIN = Struct("<HHII")
_INIT_CONTROL = Struct("<QIIII")
_STRUCTURES = {
    Op.STATUS: _STATUS,
    Op.BIND_INTERDOMAIN: _INTERDOMAIN,
    Op.INIT_CONTROL: _INIT_CONTROL,
    RESET_CONT: abi.RESET,
}
Answer = int | tuple[int, ...]


class Guest:
    """One domain, seen from within."""

    def __init__(self, world: World, domain: int, first: int) -> None:
        self._world = world
        self.domain = domain
        self._first = first
        self._memory = world.memory(domain)

    def op(self, command: int, *fields: int, vcpu: int = 0) -> Answer:
        structure = _STRUCTURES.get(command) or getattr(abi, Op(command).name)
        argument = bytearray(structure.pack(*fields))
        result = self.raw(command, argument, vcpu)
        if result:
            assert structure.unpack(argument) == fields, "refused, but written to"
            return result
        after: tuple[int, ...] = structure.unpack(argument)
        return after

    def raw(self, command: int, argument: bytearray, vcpu: int = 0) -> int:
        """The result alone."""
        return self._world.event_channel_op(self.domain, vcpu, command, argument)

    def poll(self, *ports: int, vcpu: int = 0) -> int:
        return self._world.poll(self.domain, vcpu, ports)

    def block(self, vcpu: int = 0) -> int:
        return self._world.block(self.domain, vcpu)

    def interrupts(self, enabled: bool, vcpu: int = 0) -> None:
        self._world.interrupts(self.domain, vcpu, enabled)

    def virq(self, virq: int, vcpu: int = 0) -> None:
        """Xen raises one."""
        self._world.raise_virq(self.domain, vcpu, virq)

    # What most facts begin with

    def ipi(self, vcpu: int = 0) -> int:
        """A port of this domain's own."""
        return last(self.op(Op.BIND_IPI, vcpu, JUNK))

    def unbound(self, remote: int) -> int:
        return last(self.op(Op.ALLOC_UNBOUND, SELF, remote, JUNK))

    def bind(self, remote: int, port: int) -> int:
        return last(self.op(Op.BIND_INTERDOMAIN, remote, 0, port, JUNK))

    def send(self, port: int) -> Answer:
        return self.op(Op.SEND, port)

    def status(self, port: int) -> Answer:
        """Status, vCPU and the two that depend on the status."""
        answer = self.op(Op.STATUS, SELF, 0, port, JUNK, JUNK, JUNK, JUNK)
        return answer if isinstance(answer, int) else answer[3:]

    def become_fifo(self, *, pages: int = 1, vcpus: int = 2) -> None:
        """Control blocks in frame 0, 128 bytes apart; the array from frame 1 on, nothing masked."""
        for vcpu in range(vcpus):
            asked = 0, 128 * vcpu, vcpu
            assert self.op(Op.INIT_CONTROL, *asked, 0, 0) == (*asked, 17, 0)
        for page in range(1, 1 + pages):
            assert self.op(Op.EXPAND_ARRAY, page) == (page,)

    # Memory

    def load(self, offset: int, size: int = 8, page: int = 0) -> int:
        return int.from_bytes(self._memory[page][offset : offset + size], "little")

    def store(self, offset: int, value: int, size: int = 8, page: int = 0) -> None:
        self._memory[page][offset : offset + size] = value.to_bytes(size, "little")

    @property
    def pending(self) -> int:
        return self.load(abi.EVTCHN_PENDING)

    @property
    def mask(self) -> int:
        return self.load(abi.EVTCHN_MASK)

    def mask_all(self) -> None:
        self.store(abi.EVTCHN_MASK, 2**64 - 1)

    def told(self, vcpu: int = 0) -> tuple[int, int]:
        """upcall_pending and the selector of a vCPU."""
        info = abi.VCPU_INFO_SIZE * vcpu
        return self.load(info + abi.UPCALL_PENDING, 1), self.load(info + abi.PENDING_SEL)

    def word(self, port: int) -> int:
        """FIFO: a port's event word."""
        return self.load(4 * (port % 1024), 4, page=2 + port // 1024)

    def set_word(self, port: int, word: int) -> None:
        self.store(4 * (port % 1024), word, 4, page=2 + port // 1024)

    def ready(self, vcpu: int = 0) -> int:
        return self.load(128 * vcpu, 4, page=1)

    def head(self, priority: int = 7, vcpu: int = 0) -> int:
        return self.load(128 * vcpu + 8 + 4 * priority, 4, page=1)

    # Signals

    def upcalls(self, vcpu: int = 0) -> int:
        return self._world.signals[3 * (self._first + vcpu)]

    def asleep(self, vcpu: int = 0) -> bool:
        return bool(self._world.signals[3 * (self._first + vcpu) + 2])


def last(answer: Answer) -> int:
    assert isinstance(answer, tuple), f"refused: {answer}"
    return answer[-1]


class Fact(NamedTuple):
    """A rule, and the domains it is asked of."""

    rule: Callable[..., None]
    domains: tuple[Domain, ...]
    frames: int

    def hold(self, make: Callable[[Sequence[Domain], int], World]) -> None:
        """Raises AssertionError where the rule is broken."""
        world = make(self.domains, self.frames)
        firsts = [sum(of.vcpus for of in self.domains[:n]) for n in range(len(self.domains))]
        guests = [Guest(world, number, first) for number, first in enumerate(firsts)]
        self.rule(*guests)


FACTS: list[Fact] = []
_TWO = Domain(vcpus=2)


def fact(*domains: Domain, frames: int = 4) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A fact about these domains; about as many as it takes, of two vCPUs, if none is given."""

    def note(rule: Callable[..., None]) -> Callable[..., None]:
        asked = domains or (_TWO,) * rule.__code__.co_argcount
        FACTS.append(Fact(rule, asked, frames))
        return rule

    return note
