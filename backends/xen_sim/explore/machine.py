"""A machine that is explored: as any other, and it says what went wrong as soon as it does.

A program boots its domains on it and runs it, as on a `Machine` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from traceback import walk_tb
from typing import Any

from activations.errors import BlockedForever, LeakWarning
from activations.loop import EventLoop
from activations.promises import PromiseBroken
from xen_sim.build import Built
from xen_sim.explore import asleep
from xen_sim.explore.conductor import Broken, Conductor
from xen_sim.explore.finding import ASLEEP_DEAF, EVENTUALLY, EXCEPTION, LEAK, UNSEEN, Finding
from xen_sim.explore.footprint import Redundant, noted
from xen_sim.explore.watched import watched
from xen_sim.faults.ask import ORDINARY
from xen_sim.faults.kinds import NONE
from xen_sim.guests import catalogue
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.solo5 import Solo5
from xen_sim.hardware.cpu import SteppedCPU, TripleFault
from xen_sim.life import LoopLife, Main, PlainLife
from xen_sim.machine import Machine
from xen_sim.schedule.tape import Diverged
from xen_sim.xen.domain import XenDomain


class ExploredMachine(Machine):
    """One run's machine."""

    def __init__(
        self,
        conductor: Conductor,
        kernel: type[Kernel] = Solo5,
        faults: str = NONE,
        late: int = 0,
    ) -> None:
        super().__init__(tape=conductor, explore=True, faults=faults)
        if conductor.footprints is not None:
            self.xen.processor = noted(conductor.footprints)
        self._conductor = conductor
        self._kernel = kernel
        self._late = late
        self.sometimes: dict[str, bool] = {}
        """What has to be so in some run, and whether it was so in this one."""
        self._owed: list[tuple[Callable[[], object], str]] = []
        self._stuck: Finding | None = None
        self._broken: Finding | None = None
        self._unseen: list[str] = []
        self._ended = False
        """Its domains have been ended too: what is promised now, the code that made the machine
        promises."""

    # What a program does with it

    def boot(
        self,
        name: str,
        main: Main | Sequence[Main],
        *,
        kernel: type[Kernel] | str | None = None,
        **how: Any,
    ) -> LoopLife:
        return super().boot(name, main, kernel=self._watched(kernel), **how)

    def plain(
        self,
        name: str,
        main: Callable[[PlainGuest], Any],
        *,
        kernel: type[Kernel] | str | None = None,
        **how: Any,
    ) -> PlainLife:
        life = super().plain(name, main, kernel=self._watched(kernel), **how)
        self._may_be_late(life.domain)
        return life

    def _watched(self, kernel: type[Kernel] | str | None) -> type[Kernel]:
        return watched(catalogue.kernel(self._kernel if kernel is None else kernel))

    def invariant(self, check: Callable[[], object], said: str) -> None:
        """This is so before every step of the run."""
        self._conductor.checks.append((check, said))
        if self._conductor.footprints is not None:
            self._conductor.footprints.all_meet()

    def _loops(self, built: Built, count: int) -> list[EventLoop]:
        self._may_be_late(built.domain)
        loops = super()._loops(built, count)
        for each in loops:
            each.set_exception_handler(self._exception)
        return loops

    def _may_be_late(self, domain: XenDomain) -> None:
        for vcpu in domain.vcpus:
            assert isinstance(vcpu.cpu, SteppedCPU)
            vcpu.cpu.late = self._late

    # Whom promises are told

    def broken(self, kind: str, said: str) -> None:
        """The run is over where it stands, and no code of the program's is told."""
        if self._cleans_up:
            return
        scheduler = self.xen.scheduler
        running = scheduler.current
        self._broken = self._broken or Finding(kind, said, running.name if running else "")
        self._conductor.over = True
        if running is None:
            raise PromiseBroken(f"{kind}: {said}")
        scheduler.end(running, Broken(self._broken))

    def promised(self, said: str, kept: bool) -> None:
        if not self._cleans_up:
            self.sometimes[said] = kept or self.sometimes.get(said, False)

    def owed(self, condition: Callable[[], object], said: str) -> None:
        if not self._cleans_up:
            self._owed.append((condition, said))

    @property
    def _cleans_up(self) -> bool:
        """Whether the run is over, and its domains are ended: what they still do, the dead among
        them, is not part of it."""
        return self._conductor.over and not self._ended

    def _kill(self) -> None:
        self._conductor.over = True
        super()._kill()
        self._ended = True

    def faulty(self, kind: str) -> bool:
        return self.xen.faults is not None and self.xen.faults.of(kind)

    def fault(self, kind: str, what: str, *names: str) -> str:
        running = self.xen.scheduler.current
        if self.xen.faults is None or running is None:
            return ""
        answer = self.xen.faults.ask(kind, running.name, what, *names)
        return "" if answer == ORDINARY else answer

    # What went wrong

    def blocked(self, error: BlockedForever, loops: Sequence[EventLoop]) -> BlockedForever:
        """Looked at before anybody is asked to end: what is pending is pending still."""
        told = super().blocked(error, loops)
        self._conductor.look()
        if self._stuck is None and not self._conductor.over:
            scheduler = self.xen.scheduler
            running, scheduler.current = scheduler.current, None  # our looks are not steps
            self._stuck = asleep.why(self.lives, str(told).partition("\n")[2])
            scheduler.current = running
        self._conductor.over = True
        return told

    def finding(self, failure: BaseException | None) -> Finding | None:
        """What this run did wrong, once it has ended with this."""
        if isinstance(failure, Diverged | KeyboardInterrupt):
            raise failure
        if self._broken is not None:
            return self._broken
        if failure is not None:
            return self._failed(failure)
        for condition, said in self._owed:
            if not condition():
                return Finding(EVENTUALLY, said)
        if self._unseen:
            return Finding(UNSEEN, self._unseen[0])
        return None

    def _failed(self, failure: BaseException) -> Finding | None:
        actor = next((life.name for life in self.lives if life.failure is failure), "")
        said = f"{actor}: {failure}" if actor else str(failure)
        match failure:
            case Redundant():
                return None
            case Broken():
                return failure.finding
            case BlockedForever() if self._stuck is not None:
                return self._stuck
            case TripleFault():
                return Finding(ASLEEP_DEAF, str(failure), str(failure).partition(":")[0])
            case LeakWarning():
                return Finding(LEAK, said, actor)
        kind = type(failure).__name__
        of = f"{actor}: " if actor else ""
        return Finding(EXCEPTION, f"{of}{kind}: {failure}{_place(failure)}", actor)

    def _exception(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        said = f": {type(error).__name__}: {error}" if error is not None else ""
        self._unseen.append(f"{loop.domain.name}: {context['message']}{said}")


def _place(failure: BaseException) -> str:
    """Where it was raised: the innermost line that pytest would show."""
    places = [
        (frame.f_code, line)
        for frame, line in walk_tb(failure.__traceback__)
        if not frame.f_locals.get("__tracebackhide__")
    ]
    if not places:
        return ""
    code, line = places[-1]
    return f"\n  in {code.co_qualname}, {code.co_filename.rpartition('/')[2]}:{line}"
