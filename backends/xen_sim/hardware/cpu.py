"""A processor as its guest sees it: the interrupt flag, `hlt`, and the gate an interrupt enters by.

What may interrupt it is a `Line`. It is taken when interrupts are enabled: the gate clears the
flag, the handler runs, `iret` restores the flag. `hlt` with an interrupt due does not sleep, and
`sti` holds interrupts off until the instruction after it has begun, so that `sti; hlt` cannot be
torn apart.

When nothing is explored, an interrupt lands at the next `sti`, `hlt` or poll, which is late but
legal; in an explored machine it lands at the first step after it was raised, or some steps later
where that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from activations.errors import SimulationOver
from xen_sim.hardware.apic import LocalAPIC
from xen_sim.hardware.memory import Before
from xen_sim.schedule.scheduler import Fiber, Scheduler
from xen_sim.schedule.step import Step

Handler = Callable[[], None]

NO_DEVICE = 0xFF
"""What a read of an I/O port gives behind which there is nothing."""


class TripleFault(SimulationOver):
    """`hlt` with interrupts disabled: the processor is down for good."""


class Line(Protocol):
    """What may interrupt a processor."""

    level: bool
    """Whether it may be raised without `CPU.interrupt` being called, by what is in memory."""

    def raised(self) -> bool:
        """Whether an interrupt is due, as far as it is not up to the processor's own flag."""

    def acknowledge(self) -> int:
        """The processor takes it: the vector by which the guest is entered."""

    def returned(self) -> None:
        """The handler of a level has returned."""

    def broken_off(self) -> None:
        """The handler was broken off, and is to be entered again."""


class Unconnected:
    """No line yet: nothing interrupts."""

    level = False

    def raised(self) -> bool:
        return False

    def acknowledge(self) -> int:
        raise AssertionError("nothing was raised")

    def returned(self) -> None:
        """Nothing was entered."""

    def broken_off(self) -> None:
        """Nothing was entered."""


class CPU(Fiber):
    """One processor of a guest."""

    __slots__ = ("apic", "due", "idt", "interrupts", "line", "scheduler")

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        super().__init__(name)
        self.scheduler: Scheduler = scheduler
        self.interrupts: bool = False
        """The interrupt flag, IF."""
        self.due: bool = False
        """The interrupt pin: something was raised on the line, and may still be."""
        self.line: Line = Unconnected()
        self.apic: LocalAPIC = LocalAPIC()
        self.idt: dict[int, Handler] = {}
        """The interrupt descriptor table: the guest's handlers, by vector."""

    # From outside

    def interrupt(self) -> None:
        """Something was raised on the line: it wakes, however it sleeps."""
        self.due = True
        self.scheduler.wake(self)

    def wake(self) -> None:
        """Wake it without an interrupt."""
        self.scheduler.wake(self)

    def kick(self) -> None:
        """As `wake`, for what is not the guest's to see: a descriptor is ready, it is called from
        another domain, or it is to end. One that is not asleep does not sleep the next time."""
        self.scheduler.kick(self)

    def disconnect(self) -> None:
        """Its guest is gone, and what would interrupt it."""
        self.line = Unconnected()
        self.idt.clear()
        self.forget()

    # What its guest does

    def cli(self) -> None:
        self.interrupts = False

    def sti(self) -> None:
        """Enable interrupts. A guest that finds work whenever it is about to sleep comes by here:
        its timeslice ends, lest the others and the clock stand still."""
        self.interrupts = True
        self.give_way()

    def hlt(self) -> None:
        """Sleep until an interrupt; it is taken before this returns."""
        if not self.interrupts:
            self._triple_fault()
        self.sleep()

    def sti_hlt(self) -> None:
        """`sti; hlt`: interrupts are held off until hlt has begun."""
        self.interrupts = True
        if self.due or self.line.level:
            self.sleep()
        else:
            self.rest()
            self.take_interrupt()

    def rest(self) -> None:
        """Sleep until somebody wakes it, and leave what came to be taken."""
        self.scheduler.sleep(self)

    def eoi(self) -> None:
        """End of interrupt, to the local APIC."""
        self.apic.eoi()
        if self.apic.irr:
            self.due = True

    def inb(self, port: int) -> int:
        """Read an I/O port. A PVH guest has no devices there."""
        return NO_DEVICE

    def outb(self, port: int, value: int) -> None:
        """Write to an I/O port: it goes nowhere."""

    def step(self, step: Step) -> None:
        """The guest is about to take this step; here no other vCPU runs before it."""

    def step_of_xen(self, step: Step) -> None:
        """Xen is about to take this step on its behalf; here no other vCPU runs before it."""

    @property
    def before(self) -> Before | None:
        """What its guest's memory is to tell of each access; None where it is not explored."""
        return None

    # What that comes to

    def sleep(self) -> None:
        """Sleep until something is due, and take it. What was raised may not be any more: a guest
        clears the flag of a level by hand, or a vector is held back by one that has no EOI."""
        if self.line.raised():
            self.scheduler.spend(self)
        else:
            self.due = False
            self.scheduler.sleep(self)
        self.take_interrupt()

    def take_interrupt(self) -> None:
        """Run the handler for what is due, if it may be delivered now."""
        line = self.line
        due = line.raised()
        while due and self.interrupts:
            try:
                handler = self.idt[line.acknowledge()]
                self.interrupts = self.due = False  # the gate clears IF, iret restores it
                handler()
                self.interrupts = True
                if line.level:
                    line.returned()
            except BaseException:
                self._broken_off()
                raise
            due = (self.due or line.level) and line.raised()
        self.due = due

    def _broken_off(self) -> None:
        """An exception out of a signal handler struck in the handler: it is entered again."""
        self.interrupts = self.due = True
        self.line.broken_off()

    def give_way(self) -> None:
        """A busy guest's timeslice ends: let others run, then take what came."""
        self.scheduler.give_way(self)
        if self.due:
            self.take_interrupt()

    def pause(self) -> None:
        """Once round a spin: it waits for what somebody else does to memory, who runs now."""
        self.scheduler.stand_aside(self)

    def _triple_fault(self) -> None:
        fault = TripleFault(f"{self.name}: hlt with interrupts disabled")
        self.scheduler.end(self, fault)


class SteppedCPU(CPU):
    """A processor that can be preempted, and interrupted, before each of its guest's steps.

    What another processor raises is on its way for up to `late` steps: what it is about stands in
    memory by then, and the guest may see it there before its handler is entered. At a hypercall and
    at `hlt` it comes at the latest, and what a guest raises itself comes at once.
    """

    __slots__ = ("_on_its_way", "_shadow", "_still", "late")

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        super().__init__(name, scheduler)
        self._shadow = False
        """`sti` was the last instruction: interrupts are held off for one more."""
        self.late: int = 0
        """The most steps that an interrupt may be late."""
        self._on_its_way = False
        """Another one has raised an interrupt, and how late it is was not asked yet."""
        self._still = 0
        """Steps that it is still late."""

    @property
    def before(self) -> Before | None:
        return self.step

    def step(self, step: Step) -> None:
        """The guest is about to take this step: others may run first."""
        self.scheduler.preempt(self, step)
        if self._shadow:
            self._shadow = False
        elif self.interrupts and self.line.raised() and not self._comes_later(step):
            self.take_interrupt()

    def interrupt(self) -> None:
        self._on_its_way = self.late > 0 and self.scheduler.current is not self
        super().interrupt()

    def take_interrupt(self) -> None:
        self._on_its_way, self._still = False, 0
        super().take_interrupt()

    def _comes_later(self, step: Step) -> bool:
        """Whether what was raised is not here yet, as the guest is about to take this step."""
        if self._on_its_way:
            self._on_its_way = False
            steps = (f"{number} steps late" for number in range(1, self.late + 1))
            self._still = self.scheduler.ask(self, _UPCALL, *steps)
        if not self._still or step.kind == "hypercall":
            return False
        self._still -= 1
        return True

    def step_of_xen(self, step: Step) -> None:
        """Other vCPUs may run first; its interrupts wait until Xen returns to it."""
        self.scheduler.preempt(self, step)

    def cli(self) -> None:
        self.step(_CLI)
        super().cli()

    def sti(self) -> None:
        self.step(_STI)
        self._shadow = not self.interrupts
        super().sti()

    def hlt(self) -> None:
        self.step(_HLT)
        super().hlt()

    def eoi(self) -> None:
        self.step(_EOI)
        super().eoi()

    def sti_hlt(self) -> None:
        self.step(_STI)
        self.interrupts = self._shadow = True
        self.step(_HLT)
        super().sti_hlt()

    def give_way(self) -> None:
        """A timeslice ends; what came is taken at the next step."""
        self.scheduler.give_way(self)
        if not self._shadow:
            self.take_interrupt()


_CLI, _STI, _HLT, _EOI = Step("cli"), Step("sti"), Step("hlt"), Step("eoi")
_UPCALL = Step("upcall")
