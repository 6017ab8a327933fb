"""The plain machine's fused lower half and event delivery, held against the readable ones: the same
bytes and events into both, every byte and every answer compared."""

from __future__ import annotations

from random import Random

import pytest

from activations.abi.event_channel import DOMID_SELF
from xen_sim.build import Built, build
from xen_sim.guests.fused import FusedSolo5
from xen_sim.guests.solo5 import Solo5
from xen_sim.xen.event_2l import PlainTwoLevel, TwoLevel
from xen_sim.xen.hypervisor import Hypervisor


class Side:
    """A guest with some ports, on one of the two."""

    def __init__(self, *, fused: bool) -> None:
        built: Built = build(Hypervisor(), "guest", Solo5)
        self.domain = built.domain
        platform = built.platform(0)
        self.kernel = (FusedSolo5 if fused else Solo5)(platform)
        self.xen = platform.xen
        if not fused:
            self.domain.event_channels.ops = TwoLevel(self.domain)
        assert isinstance(self.domain.event_channels.ops, PlainTwoLevel) is fused
        self.kernel.start()
        self.ports = [self.xen.bind_ipi() for _ in range(200)]
        self.xen.alloc_unbound(DOMID_SELF, 0)
        self.kernel.unmask(self.ports)

    def state(self) -> tuple[object, ...]:
        cpu = self.domain.vcpus[0].cpu
        return (
            bytes(self.domain.shared_info.bytes),
            list(self.kernel.taken),
            (cpu.interrupts, cpu.due, cpu.asleep, cpu.apic.irr, cpu.apic.isr),
        )

    def do(self, what: str, port: int, word: int, keep: int, flip: int) -> object:
        match what:
            case "send":
                return self.xen.send(self.ports[port])
            case "mask":
                return self.kernel.mask(self.ports[port])
            case "unmask":
                return self.kernel.unmask((self.ports[port],))
            case "demux":
                return list(self.kernel.demux())
            case "done":
                return self.kernel.unmask(self.kernel.taken)
            case "block" if self.kernel.announced[0] or self.domain.vcpus[0].cpu.due:
                return self.kernel.block(None)
            case "scribble":
                words = (self.kernel.pending, self.kernel.masks)[flip & 1]
                words[word] = words[word] & keep ^ flip
            case "select":
                self.kernel.pending_sel[0] = keep
            case "flag":
                self.kernel.upcall_pending[0] = flip & 1
        return None


@pytest.mark.parametrize("seed", range(30))
def test_both_write_the_same_bytes_and_give_the_same_ports(seed: int) -> None:
    random = Random(seed)
    readable, fused = Side(fused=False), Side(fused=True)
    kinds = ["send"] * 6 + ["mask", "unmask", "demux", "demux", "done", "block", "block"]
    kinds += ["scribble", "select", "flag"]
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
