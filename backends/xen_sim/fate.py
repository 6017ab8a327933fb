"""What befalls whole domains of an explored machine: they are paused, killed, restarted, migrated.

It is asked before every step of a guest, and done by the hub: a greenlet of a domain that dies is
put away as it stands, and ended with the run. What the dead domain would still do (a `finally`, a
`with` block) is not done within the run, as on any Xen.

What Xen does on a domain's behalf it does to its end: a domain that stands within a hypercall is
not killed there, and none is migrated meanwhile, since the hypercall may be about its ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from xen_sim.faults.ask import ORDINARY, Faults
from xen_sim.hardware.cpu import CPU, SteppedCPU
from xen_sim.schedule.scheduler import Scheduler
from xen_sim.schedule.step import Step

if TYPE_CHECKING:
    from xen_sim.life import Life
    from xen_sim.machine import Machine

PAUSE_NS = 20_000_000
BOOT_NS = 10_000_000
"""From a domain's death to the first instruction of the one that takes its place."""


class DoomedCPU(SteppedCPU):
    """A processor: `befall` is told of every step of its guest before it is taken, and may not
    return."""

    __slots__ = ("_befall", "in_xen")

    def __init__(self, befall: Befall, name: str, scheduler: Scheduler) -> None:
        super().__init__(name, scheduler)
        self._befall = befall
        self.in_xen: bool = False
        """Xen acts on its behalf."""

    def step(self, step: Step) -> None:
        if self.scheduler.current is self:  # else it is the hub that boots or resumes the guest
            self._befall(self, step)
            super().step(step)

    def step_of_xen(self, step: Step) -> None:
        self.in_xen = True
        try:
            super().step_of_xen(step)
        finally:
            self.in_xen = False


Befall = Callable[[DoomedCPU, Step], None]


class Fate:
    """Of one machine's domains."""

    def __init__(self, machine: Machine, faults: Faults) -> None:
        self._machine = machine
        self._xen = machine.xen
        self._scheduler = machine.xen.scheduler
        self._faults = faults
        self._may = frozenset(name for kind, name in faults.enabled if kind == "domains")
        self._deeds: dict[str, Callable[[Life], None]] = {
            "killed": self._kill,
            "restarted": self._restart,
            "migrated": self._migrate,
        }
        self._dead: set[CPU] = set()

    def befall(self, cpu: DoomedCPU, step: Step) -> None:
        """This vCPU is about to take this step."""
        scheduler = self._scheduler
        if self._faults.calm or scheduler.hub is None or scheduler.ending:
            return
        options = list(self._options(cpu, step))
        fate = self._faults.choose("domains", cpu.name, str(step), options)
        if fate == ORDINARY:
            return
        name, _, what = fate.rpartition(" ")
        if what == "paused":
            self._pause(cpu)
        else:
            life = next(life for life in self._living() if life.domain.name == name)
            scheduler.at_hub(cpu, partial(self._deeds[what], life))

    def _options(self, cpu: DoomedCPU, step: Step) -> Iterator[str]:
        if "paused" in self._may:
            yield f"{cpu.name} paused"
        in_xen = {life.domain for life in self._machine.lives if _in_xen(life)}
        for life in self._living():
            name = life.domain.name
            if life.mortal and life.domain not in in_xen:
                for what in ("killed", "restarted"):
                    if what in self._may:
                        yield f"{name} {what}"
            if "migrated" in self._may and not in_xen and _at_rest(life, cpu, step):
                yield f"{name} migrated"

    def _living(self) -> Iterator[Life]:
        """The first life of each domain of which one goes on."""
        alive = {life.domain for life in self._machine.lives if not life.ended}
        return (
            life for life in self._machine.lives if life.boots is not None and life.domain in alive
        )

    def _pause(self, cpu: CPU) -> None:
        self._scheduler.put_away(cpu)
        self._later(cpu, PAUSE_NS, "goes on")
        self._scheduler.leave(cpu)

    def _later(self, cpu: CPU, ns: int, what: str) -> None:
        def comes() -> None:
            if cpu not in self._dead:
                self._scheduler.bring_back(cpu)

        self._xen.calendar.add(self._xen.clock.time_ns() + ns, comes, f"{cpu.name} {what}")

    def _kill(self, life: Life) -> None:
        for vcpu in life.domain.vcpus:
            self._dead.add(vcpu.cpu)
            self._scheduler.put_away(vcpu.cpu)
        self._xen.kill(life.domain)
        life.vcpu.trace("killed")
        for each in self._machine.lives:
            if each.domain is life.domain:
                each.die()

    def _restart(self, life: Life) -> None:
        self._kill(life)
        for each in self._machine.boot_again(life):
            self._scheduler.put_away(each.vcpu.cpu)
            self._later(each.vcpu.cpu, BOOT_NS, "boots")

    def _migrate(self, life: Life) -> None:
        assert life.loop is not None
        self._machine.suspend(life.loop)


def _in_xen(life: Life) -> bool:
    cpus = (vcpu.cpu for vcpu in life.domain.vcpus)
    return any(isinstance(cpu, DoomedCPU) and cpu.in_xen for cpu in cpus)


def _at_rest(life: Life, cpu: CPU, step: Step) -> bool:
    """Whether this guest may be suspended here: its kernel has nothing under way."""
    if life.loop is None or life.domain.privileged or len(life.domain.vcpus) > 1:
        return False
    if life.vcpu.cpu is cpu:
        return step.kind == "hlt" or step.what.startswith("memory")
    return life.vcpu.cpu.asleep
