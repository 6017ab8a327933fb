"""The plain machine's fused lower half and event delivery, in Python and in C, held against the
readable ones: the same bytes and events into all, every byte and every answer compared."""

from __future__ import annotations

from random import Random

import pytest
from support.pure import needed_accelerator

from activations.abi.event_channel import DOMID_SELF, Virq
from activations.abi.sched import TIMEOUT_LIMIT_NS
from activations.trace import Trace
from xen_sim import Machine
from xen_sim.build import Built, build
from xen_sim.guests.fused import FusedSolo5
from xen_sim.guests.mini_os import MiniOS
from xen_sim.guests.solo5 import Solo5
from xen_sim.xen.event_2l import PlainTwoLevel, TwoLevel
from xen_sim.xen.hypervisor import Hypervisor


class Side:
    """A guest with some ports, on one of the two."""

    def __init__(self, *, fused: bool, in_c: bool = False) -> None:
        self.machine = Hypervisor()
        built: Built = build(self.machine, "guest", Solo5)
        self.domain = built.domain
        platform = built.platform(0)
        self.kernel = (FusedSolo5 if fused else Solo5)(platform)
        self.xen = platform.xen
        if not fused:
            self.domain.event_channels.ops = TwoLevel(self.domain)
        assert isinstance(self.domain.event_channels.ops, PlainTwoLevel) is fused
        if in_c:
            fast = self.kernel.accelerated(needed_accelerator())
            for name in ("demux", "unmask"):
                setattr(self.kernel, name, getattr(fast, name))
        self.kernel.start()
        self.kernel.unmask((self.xen.bind_virq(Virq.TIMER),))
        self.ports = [self.xen.bind_ipi() for _ in range(200)]
        self.xen.alloc_unbound(DOMID_SELF, 0)
        self.kernel.unmask(self.ports)

    def state(self) -> tuple[object, ...]:
        cpu = self.domain.vcpus[0].cpu
        return (
            bytes(self.domain.shared_info.bytes),
            list(self.kernel.taken),
            (cpu.interrupts, cpu.due, cpu.asleep, cpu.apic.irr, cpu.apic.isr),
            self.machine.clock.time_ns(),
            self.machine.calendar.next_time(),
        )

    def take(self) -> list[int]:
        """As an event loop does: nobody runs between the demux and the unmask."""
        taken = self.kernel.demux()
        ports = list(taken)
        self.kernel.unmask(taken)
        return ports

    def sleep(self, ahead: int) -> list[int]:
        """Until a deadline, which is what the loop looks at afterwards. (The timer's own port is
        nobody's: whether it is among what fired is not to be seen.)"""
        self.kernel.block(self.machine.clock.time_ns() + ahead)
        return [port for port in self.take() if port != 1]

    def do(self, what: str, port: int, word: int, keep: int, flip: int) -> object:
        match what:
            case "send":
                return self.xen.send(self.ports[port])
            case "mask":
                return self.kernel.mask(self.ports[port])
            case "unmask":
                return self.kernel.unmask((self.ports[port],))
            case "take":
                return self.take()
            case "poll" if self.kernel.announced[0] or self.domain.vcpus[0].cpu.due:
                return self.kernel.block(None)
            case "sleep":
                return self.sleep(flip % 1000 - 10)
            case "sleep on":  # others' business comes in between, or at the same instant
                wakes = self.machine.clock.time_ns() + keep % 50
                self.machine.calendar.add(wakes, lambda: self.xen.send(self.ports[port]))
                return self.sleep(flip % 50)
            case "mistake":
                return self.sleep(TIMEOUT_LIMIT_NS + flip % 3)
            case "kick":
                return self.domain.vcpus[0].cpu.kick()
            case "scribble":
                words = (self.kernel.pending, self.kernel.masks)[flip & 1]
                words[word] = words[word] & keep ^ flip
            case "select":
                self.kernel.pending_sel[0] = keep
            case "flag":
                self.kernel.upcall_pending[0] = flip & 1
        return None


def compare(seed: int, kinds: list[str], *, in_c: bool) -> None:
    random = Random(seed)
    readable, fused = Side(fused=False), Side(fused=True, in_c=in_c)
    for _ in range(1000):
        act = (
            random.choice(kinds),
            random.randrange(200),
            random.randrange(4),
            random.getrandbits(64),
            random.getrandbits(64),
        )
        assert readable.do(*act) == fused.do(*act), act
        assert readable.state() == fused.state(), act


KINDS = ["send"] * 6 + ["mask", "unmask", "take", "take", "poll", "poll", "kick"]


IN_C = pytest.mark.parametrize("in_c", [False, True], ids=["python", "c"])


@IN_C
@pytest.mark.parametrize("seed", range(30))
def test_both_write_the_same_bytes_and_give_the_same_ports(seed: int, in_c: bool) -> None:
    compare(seed, [*KINDS, "scribble", "select", "flag"], in_c=in_c)


@IN_C
@pytest.mark.parametrize("seed", range(30))
def test_both_sleep_to_the_same_instant_and_leave_the_same_bytes(seed: int, in_c: bool) -> None:
    compare(seed, [*KINDS, "sleep", "sleep", "sleep on", "sleep on", "mistake"], in_c=in_c)


def kernel_of(machine: Machine) -> type:
    loop = machine.create("guest")
    try:
        return type(loop._lower.kernel)  # type: ignore[attr-defined]
    finally:
        loop.close()


def test_it_is_taken_for_event_loops_of_a_machine_that_nobody_looks_into() -> None:
    assert kernel_of(Machine()) is FusedSolo5
    assert kernel_of(Machine(seed=1)) is FusedSolo5
    assert kernel_of(Machine(explore=True)) is Solo5
    assert kernel_of(Machine(trace=Trace())) is Solo5


def test_a_plain_guest_has_the_kernel_that_it_asks_for() -> None:
    machine = Machine()
    kernels: list[type] = []
    for name, kernel in (("a", Solo5), ("b", MiniOS)):
        machine.plain(name, lambda guest: kernels.append(type(guest.kernel)), kernel=kernel)
    machine.run()
    assert kernels == [Solo5, MiniOS]
