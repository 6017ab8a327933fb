"""The probe's interpreter on a plain guest of the simulator: kernel/programs.c in Python.

What is said there of windows, alarms and turns holds here. Whether a vCPU slept is told by the
virtual clock, which moves only where everybody sleeps.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain

from xen_oracle.program import Kind, Step

from activations.abi import event_channel as abi
from activations.errors import XenError
from xen_sim import Kernel, Machine, PlainGuest, Solo5
from xen_sim.guests.upcalls import CALLBACK_VECTOR, UPCALL_VECTOR
from xen_sim.hardware.memory import Frame
from xen_sim.schedule.clock import Calendar
from xen_sim.xen.grant_table import MAX_FRAMES

from .module import Answer
from .simulated_grants import Domids, Grants, peer
from .steps import FRAMES, ProbeKind, Timer

MAKES_EOI, CLEARS = 1, 2
STORM = 100
ALARM = 400_000
NO_FRAME = 1 << 36
"""Added to the number of a frame that there is not."""


def answers(
    steps: Sequence[Step],
    delivery: str = "vector",
    vcpus: int = 1,
    max_ports: int = abi.MAX_PORTS_DEFAULT,
    domid: int = 1,
    explore: bool = False,
    with_peer: bool = False,
) -> list[Answer]:
    """What becomes of each step in a domain with this domid, with dom0 beside it, and a peer."""
    machine = Machine(explore=explore)
    machine.plain("dom0", lambda guest: None)
    who = Domids(domid, domid + 1 if with_peer else 0)
    if with_peer:
        machine.xen._next_domid = who.peer
        who = who._replace(frames=peer(machine.xen.create("peer"), domid))
    machine.xen._next_domid = domid
    said: list[Answer] = []

    def main(guest: PlainGuest) -> None:
        _Probe(guest.kernel, delivery, machine.xen.calendar, said, who).do(steps)

    machine.plain("guest", main, kernel=_Bare, vcpus=vcpus, max_ports=max_ports)
    machine.run()
    return said


class _Bare(Solo5):
    """A kernel that does nothing by itself."""

    name = "bare"
    multiprocessor = True

    def start(self) -> None:
        """The interpreter does it."""

    def idle(self) -> None:
        self.platform.shared["probe"].second(self)


class _Vcpu:
    """One vCPU and its handler."""

    def __init__(self, probe: _Probe, kernel: Kernel) -> None:
        platform = kernel.platform
        self._probe = probe
        self.number = platform.vcpu
        self.cpu, self.xen, self.now = platform.cpu, platform.xen, platform.time_ns
        self.info = platform.vcpu_info()
        self.scheduler = platform.cpu.scheduler
        self.upcalls = self.storm = 0
        self.enabled = False

    def register(self, delivery: str) -> None:
        self.cpu.idt[UPCALL_VECTOR] = self.cpu.idt[CALLBACK_VECTOR] = self._take_upcall
        if delivery == "vector":
            self.xen.set_upcall_vector(UPCALL_VECTOR)
        elif delivery == "callback" and self.number == 0:
            self.xen.set_callback_vector(CALLBACK_VECTOR)

    def _take_upcall(self) -> None:
        self.upcalls += 1
        self.storm += 1
        if self._probe.handler & CLEARS or self.storm >= STORM:
            self.info.upcall_pending[0] = 0
        if self._probe.handler & MAKES_EOI:
            self.cpu.eoi()

    def open_window(self) -> None:
        self.storm = 0
        self.cpu.sti()
        self.cpu.take_interrupt()
        self.cpu.cli()

    # Steps that sleep

    def poll(self, step: Step) -> bool:
        given = struct.unpack(f"<{len(step.data) // 4}I", step.data) or (0,)
        ports = [given[n % len(given)] for n in range(step.number)]
        timeout = self.now() + ALARM
        self.storm = 0
        if self.enabled:
            self.cpu.sti()
        try:
            self.xen.poll(ports, timeout)
        finally:
            self.cpu.cli()
        return self.now() >= timeout

    def sleep(self, step: Step) -> bool:
        self.storm = 0
        rings = self.now() + ALARM
        alarm = self._probe.calendar.add(rings, self.cpu.wake, "watchdog")
        if step.kind == ProbeKind.HLT:
            self.cpu.sti_hlt()
        else:
            self.cpu.sti()
            self.xen.block()
        self.cpu.cli()
        self._probe.calendar.remove(alarm)
        return self.now() >= rings

    def _wait_for_timers(self, deadline: int) -> None:
        while self.now() <= deadline:
            self.xen.poll([], deadline + 1)
        self.xen.poll([], deadline + 1)
        self.xen.poll([], deadline + 1)

    def timer(self, step: Step) -> None:
        (ns,) = struct.unpack("<q", step.data)
        xen, begun = self.xen, self.now()
        fires = begun
        match step.number:
            case Timer.SET_AHEAD:
                xen.set_timer(begun + ns)
                fires = max(begun, begun + ns)
            case Timer.SET:
                xen.set_timer(ns or None)
            case Timer.SET_MISTAKEN:
                xen.set_timer(ns if ns < 0 else begun + ns)
                fires = begun + 100_000_000
            case Timer.ONCE_AHEAD:
                xen.set_singleshot_timer(begun + ns)
                fires = max(begun, begun + ns)
            case Timer.ONCE:
                xen.set_singleshot_timer(ns)
            case Timer.ONCE_OF_ANOTHER:
                xen.set_singleshot_timer(ns, 1 - self.number)
                return
            case Timer.ONCE_STOP:
                xen.set_singleshot_timer(None)
                return
            case _:
                xen.set_periodic_timer(ns)
                self._wait_for_timers(self.now() + ns)
                xen.set_periodic_timer(None)
                return
        if ns and fires - begun < 200_000_000:
            self._wait_for_timers(fires)


class _Probe:
    """The interpreter, on all vCPUs."""

    def __init__(
        self,
        kernel: Kernel,
        delivery: str,
        calendar: Calendar,
        said: list[Answer],
        who: Domids,
    ) -> None:
        platform = kernel.platform
        self._said = said
        self._delivery = delivery
        self._kernel = kernel
        self.calendar = calendar
        self.handler = MAKES_EOI | CLEARS
        self._frames = [platform.new_frame() for _ in range(FRAMES)]
        self._pages: list[Frame] = [platform.shared_info, *self._frames]
        self._shadow = [bytes(4096) for _ in range(1 + FRAMES + MAX_FRAMES + FRAMES + 1)]
        self._grants = Grants(platform, self._frames, who)
        for number, page, _ in self._grants.pages():
            self._shadow[number] = bytes(page)
        self._many = platform.vcpus
        self._vcpus = [_Vcpu(self, kernel)]
        self._handed: Step | None = None
        self._result, self._slept = 0, False
        self._argument: bytes | bytearray = b""
        platform.shared["probe"] = self

    def do(self, steps: Sequence[Step]) -> None:
        """On vCPU 0: all steps."""
        first = self._vcpus[0]
        first.register(self._delivery)
        for step in steps:
            self._result, self._slept, self._argument = 0, False, b""
            if step.vcpu == 0:
                self._take_turn(first, step)
            if self._many > 1:
                self._let_second(step)
            if step.vcpu == 1:
                self._take_turn(first, step)
            upcalls = tuple(vcpu.upcalls for vcpu in self._vcpus)
            answer = (self._result, self._slept, upcalls, bytes(self._argument), self._changes())
            self._said.append(Answer(*answer))

    def _let_second(self, step: Step) -> None:
        self._handed = step
        if len(self._vcpus) > 1:
            second = self._vcpus[1]
            second.scheduler.wake(second.cpu)
        first = self._vcpus[0]
        while self._handed is not None:
            first.scheduler.wait(first.cpu)

    def second(self, kernel: Kernel) -> None:
        """On vCPU 1, for good: its turns."""
        first, second = self._vcpus[0], _Vcpu(self, kernel)
        self._vcpus.append(second)
        second.register(self._delivery)
        while True:
            while self._handed is None:
                second.scheduler.wait(second.cpu)
            self._take_turn(second, self._handed)
            self._handed = None
            first.scheduler.wake(first.cpu)

    def _take_turn(self, vcpu: _Vcpu, step: Step) -> None:
        if step.vcpu == vcpu.number:
            try:
                self._perform(vcpu, step)
            except XenError as error:
                self._result = -(error.errno or 0)
        if vcpu.enabled:
            vcpu.open_window()

    def _perform(self, vcpu: _Vcpu, step: Step) -> None:
        number = step.number
        match step.kind:
            case Kind.EVENT_CHANNEL_OP:
                self._event_channel_op(vcpu, step)
            case Kind.POLL:
                self._slept = vcpu.poll(step)
            case Kind.BLOCK:
                self._slept = vcpu.enabled and vcpu.sleep(step)
            case ProbeKind.HLT:
                self._slept = vcpu.sleep(step)
                vcpu.open_window()
            case Kind.INTERRUPTS:
                vcpu.enabled = bool(number)
            case Kind.STORE:
                keep, flip = struct.unpack("<QQ", step.data)
                words = self._pages[number >> 16].plain(number & 0xFFFF, 8, "Q")
                words[0] = words[0] & keep ^ flip
            case ProbeKind.BEGIN:
                self._begin(vcpu)
            case ProbeKind.TIMER:
                vcpu.timer(step)
            case ProbeKind.HANDLER:
                self.handler = number
            case ProbeKind.EOI:
                vcpu.cpu.eoi()
            case ProbeKind.IN:
                self._result = vcpu.cpu.inb(number)
            case ProbeKind.OUT:
                vcpu.cpu.outb(number, step.data[0])
            case ProbeKind.UPCALL_VECTOR:
                vcpu.xen.set_upcall_vector(number)
            case ProbeKind.GRANT_TABLE_OP:
                argument = self._argument = bytearray(step.data)
                self._grants.grant_table_op(number, argument)
            case ProbeKind.GRANT_ENTRY | ProbeKind.MAPPED_STORE | ProbeKind.MAPPED_LOAD:
                self._result = self._grants.step(step)
            case ProbeKind.IS_UP:
                self._result = int(vcpu.xen.is_up(number))

    def _begin(self, vcpu: _Vcpu) -> None:
        vcpu.xen.set_singleshot_timer(None)
        if vcpu.number == 0:
            vcpu.xen.reset()
            self._grants.begin()
            for page in self._pages:
                page.bytes[:] = bytes(len(page.bytes))
        self.handler = MAKES_EOI | CLEARS
        vcpu.cpu.eoi()
        vcpu.open_window()
        vcpu.enabled = False

    def _event_channel_op(self, vcpu: _Vcpu, step: Step) -> None:
        """Frames have numbers of the program's own."""
        argument = bytearray(step.data)
        names_frame = len(argument) >= 8 and step.number in (
            abi.Op.INIT_CONTROL,
            abi.Op.EXPAND_ARRAY,
        )
        if names_frame:
            (frame,) = struct.unpack_from("<Q", argument)
            there = self._frames[frame].number if frame < FRAMES else frame + NO_FRAME
            struct.pack_into("<Q", argument, 0, there & 2**64 - 1)
        try:
            vcpu.xen.event_channel_op(step.number, argument)
        finally:
            if names_frame:
                argument[:8] = step.data[:8]
            self._argument = bytes(argument)

    def _changes(self) -> tuple[tuple[int, int], ...]:
        changes = []
        own = ((number, page.bytes, False) for number, page in enumerate(self._pages))
        for number, page, of_entries in chain(own, self._grants.pages()):
            was, now = self._shadow[number], bytes(page)
            if was == now:
                continue
            self._shadow[number] = now
            for at in range(0, 4096, 8):
                if was[at : at + 8] != now[at : at + 8]:
                    value = int.from_bytes(now[at : at + 8], "little")
                    if of_entries:
                        value = self._grants.told(value)
                    changes.append((number << 16 | at, value))
        return tuple(changes)
