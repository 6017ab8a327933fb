"""A simulated machine: Xen, its domains, and the life of a run.

    machine = Machine()
    machine.boot("dom0", server)
    machine.boot("guest", client)
    machine.run()                   # {"dom0": what server returned, "guest": ...}

No state is global: two machines live side by side in one process. A machine runs once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, get_args

from greenlet import GreenletExit, getcurrent

from activations.abi.event_channel import MAX_PORTS_DEFAULT
from activations.errors import BackendError, BlockedForever, SimulationOver
from activations.loop import EventLoop
from activations.lower import Clock as ClockName
from activations.trace import Trace
from xen_sim import waiting
from xen_sim.build import Built, build
from xen_sim.fate import DoomedCPU, Fate
from xen_sim.faults.kinds import NONE, Enabled, parse
from xen_sim.guests.asyncio_guest import AsyncioState
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5
from xen_sim.interrupt import interruptible
from xen_sim.life import Life, LoopLife, Main, PlainLife
from xen_sim.schedule.tape import Seeded, Tape
from xen_sim.xen.hypervisor import Hypervisor

T = TypeVar("T")

CANCEL_REQUESTS = 10
"""How often a program is asked to end before it is ended."""


class Machine:
    """A Xen and its domains on one processor and one clock.

    `seed` or `tape` answer what could go either way (see `schedule.tape`); without them everything
    is first come, first served. With `explore`, a vCPU can be preempted between any two steps: on
    shared memory, its own or Xen's, at interrupts' enabling and disabling, and into Xen. `trace`
    keeps what happened. `faults` says what may go wrong, as `events,timers`: see docs/explorer.md.
    """

    def __init__(
        self,
        *,
        clock: ClockName = "virtual",
        seed: int | None = None,
        tape: Tape | None = None,
        explore: bool = False,
        trace: Trace | None = None,
        faults: str = NONE,
    ) -> None:
        if clock not in get_args(ClockName):
            raise BackendError(f"unknown clock {clock!r}: it is 'virtual' or 'wall'")
        if seed is not None and tape is not None:
            raise BackendError("a machine takes a seed or a tape, not both")
        self._tape = Seeded(seed) if seed is not None else tape
        self.xen: Hypervisor = Hypervisor(
            clock,
            self._tape,
            explored=explore,
            trace=trace,
            keep=AsyncioState.save,
            faults=self._faults(faults, explore=explore),
        )
        self.lives: list[Life] = []
        self._built: dict[EventLoop, Built] = {}
        self._idling: list[Built] = []
        """Domains with vCPUs that have no program."""
        self._replaced: list[Life] = []
        """Lives of domains that were killed, and booted again."""
        self._threads = frozenset(threading.enumerate())
        self._run = False
        if self.xen.faults is not None and self.xen.faults.of("domains"):
            self.xen.processor = partial(DoomedCPU, Fate(self, self.xen.faults).befall)
        self.xen.scheduler.report = lambda error: self.blocked(error, list(self._built))

    def _faults(self, text: str, *, explore: bool) -> Enabled:
        enabled = parse(text)
        if enabled and not (explore and self._tape is not None):
            raise BackendError(
                f"faults {text!r} happen on a machine that is explored, with a seed or a tape that "
                "says when: Machine(seed=1, explore=True, faults=...)"
            )
        return enabled

    # Domains

    def create(self, name: str, *, kernel: type[Kernel] | str = Solo5) -> EventLoop:
        """A domain, running on whatever greenlet runs the loop this returns.

        The one called `dom0` gets domid 0; the others are numbered from 1.
        """
        return self._loops(build(self.xen, name, kernel), 1)[0]

    def boot(
        self,
        name: str,
        main: Main | Sequence[Main],
        *,
        kernel: type[Kernel] | str = Solo5,
        delivery: Delivery = "vector",
        vcpus: int | None = None,
        max_ports: int = MAX_PORTS_DEFAULT,
        restart: bool | None = None,
    ) -> LoopLife:
        """A domain that runs `main(domain)` when the machine runs.

        Several programs run on a vCPU each, with an event loop each, the first one on vCPU 0; what
        the others return is under `name.1` and so on. `kernel` is the lower half that the guest is
        built with, a class or the name of one that is there (`linux-fifo`); `delivery` how Xen
        interrupts it, `max_ports` its `max_event_channels`. vCPUs without a program idle, where the
        kernel knows more than one. `restart` says whether a fault may kill the domain; where
        nothing is said it may kill guests, and not dom0, of which it kills the program alone.

        Raises `BackendError` for what cannot be.
        """
        programs = [main] if callable(main) else list(main)
        make = partial(
            build,
            self.xen,
            name,
            kernel,
            delivery=delivery,
            vcpus=len(programs) if vcpus is None else vcpus,
            max_ports=max_ports,
            programs=len(programs),
        )
        mortal = name != "dom0" if restart is None else restart
        return self._begin(make, programs, mortal=mortal)

    def plain(
        self,
        name: str,
        main: Callable[[PlainGuest], T],
        *,
        kernel: type[Kernel] | str = Solo5,
        delivery: Delivery = "vector",
        vcpus: int = 1,
        max_ports: int = MAX_PORTS_DEFAULT,
        restart: bool = False,
    ) -> PlainLife:
        """A domain that runs a plain function on vCPU 0, without an event loop: see
        `guests.plain`. Options and errors are those of `boot`; a fault kills it if `restart`."""
        make = partial(
            build, self.xen, name, kernel, delivery=delivery, vcpus=vcpus, max_ports=max_ports
        )
        return self._begin_plain(make, main, mortal=restart)

    def _begin(
        self, make: Callable[[], Built], programs: Sequence[Main], *, mortal: bool
    ) -> LoopLife:
        """A life of each program in a new domain; the first one knows how to begin anew."""
        built = make()
        loops = self._loops(built, len(programs))
        lives = [
            LoopLife(built.domain, number, loop, program)
            for number, (program, loop) in enumerate(zip(programs, loops, strict=True))
        ]
        self.lives += lives
        self._let_idle(built, lives[0], len(programs))
        lives[0].boots = partial(self._begin, make, programs, mortal=mortal)
        lives[0].mortal = mortal
        return lives[0]

    def _begin_plain(
        self, make: Callable[[], Built], main: Callable[[PlainGuest], Any], *, mortal: bool
    ) -> PlainLife:
        built = make()
        life = PlainLife(built, main)
        self.lives.append(life)
        self._let_idle(built, life, 1)
        life.boots = partial(self._begin_plain, make, main, mortal=mortal)
        life.mortal = mortal
        return life

    def boot_again(self, life: Life) -> Sequence[Life]:
        """A domain like that of this life, which was killed, in its place: it stands before its
        first instruction. Called on the hub, while the machine runs."""
        assert life.boots is not None
        old = [each for each in self.lives if each.domain is life.domain]
        at, count = self.lives.index(life), len(self.lives)
        life.boots()
        new = self.lives[count:]
        self.lives[at : at + len(old)] = new
        del self.lives[count:]
        self._replaced += old
        for each in new:
            self._start(each)
        return new

    def _loops(self, built: Built, count: int) -> list[EventLoop]:
        loops = [built.make_loop(vcpu, of=count) for vcpu in range(count)]
        self._built |= dict.fromkeys(loops, built)
        return loops

    def _let_idle(self, built: Built, life: Life, busy: int) -> None:
        """The vCPUs behind the busy ones have no program: who runs on vCPU 0 brings them up."""
        if built.multiprocessor and busy < len(built.domain.vcpus):
            life.bring_up = lambda: built.start_idle(busy)
            self._idling.append(built)

    def suspend(self, loop: EventLoop) -> None:
        """Suspend this loop's domain and resume it at once, as a migration does: everything bound
        before is gone, and tasks that waited get `GenerationEnded`."""
        built = self._built[loop]
        built.domain.suspend()
        for each, of in self._built.items():
            if of is built:
                built.resume(each)

    # Running

    @property
    def has_run(self) -> bool:
        """Whether it ran, or was closed: then it does not run any more."""
        return self._run

    def run(self) -> dict[str, Any]:
        """Run every booted domain to its end; give what each returned, by name.

        The first failure ends the others and is raised; `BlockedForever` says who waits for what.
        Raises `BackendError` for a machine that has run.
        """
        __tracebackhide__ = True  # in pytest a program's failure stands below the test's own line
        failed = self.run_out()
        if failed is not None:
            raise failed
        return {life.name: life.result for life in self.lives}

    def run_out(self) -> BaseException | None:
        """As `run`, but the first failure is returned; each is in its `Life`."""
        if self._run:
            raise BackendError("a machine runs once; make another one to run again")
        self._run = True
        scheduler = self.xen.scheduler
        if self._tape is not None:
            self._tape.begin([life.name for life in self.lives])
        with interruptible(scheduler):
            failure = self._run_out()
        if scheduler.interrupted:  # too late for anybody to take it
            failure = failure or KeyboardInterrupt()
        if self._tape is not None:
            self._tape.end(failure)
        return failure

    def close(self) -> None:
        """Give back what was booted, where the machine has not run: a run does that itself."""
        if not self._run:
            self._run = True
            for life in self.lives:
                life.close()

    def _run_out(self) -> BaseException | None:
        scheduler = self.xen.scheduler
        scheduler.hub = getcurrent()
        for life in self.lives:
            self._start(life)
        failure: BaseException | None = None
        requests = 0
        try:
            while any(not life.ended for life in self.lives):
                trouble = self._until_something_ends()
                if trouble is not None:
                    failure = failure or trouble
                    requests += 1
                    if requests > CANCEL_REQUESTS or _is_final(trouble):
                        break
                    asked = [life.cancel() for life in self.lives]
                    if isinstance(trouble, BlockedForever) and not any(asked):
                        break
        finally:
            self._kill()
            scheduler.hub = None
        return self._interrupt() or failure

    def _start(self, life: Life) -> None:
        """It stands before its first instruction. The hub starts it, and gets control back at once:
        a greenlet begins as deep in the recursion limit as its starter stands, and another domain
        may stand deep."""
        scheduler = self.xen.scheduler
        cpu = life.vcpu.cpu
        scheduler.start(cpu, life.__call__)  # less of C's stack than `life`: each switch copies it
        cpu.greenlet.gr_context = copy_context()
        cpu.greenlet.switch()

    def _until_something_ends(self) -> BaseException | None:
        """Run until a domain has ended, none can run, or an errand is done; give what is wrong
        then."""
        scheduler = self.xen.scheduler
        scheduler.over = None
        living = [life for life in self.lives if not life.ended]
        try:
            scheduler.run(scheduler.next(), None)
            if (errand := scheduler.errand) is not None:
                scheduler.errand = None
                errand()
        except SimulationOver as error:
            scheduler.over = error
        except KeyboardInterrupt as error:
            return error
        if isinstance(scheduler.over, BlockedForever):
            loops = [life.loop for life in living if not life.ended and life.loop]
            return self.blocked(scheduler.over, loops)
        if scheduler.over is not None:
            return scheduler.over
        for life in living:
            if life.ended and life.failure is not None:
                return life.failure
        return None

    def blocked(self, error: BlockedForever, loops: Sequence[EventLoop]) -> BlockedForever:
        """Nothing can happen any more, and no domain has been asked to end yet: the same error,
        with who waits for what."""
        return BlockedForever(f"{error}:\n{waiting.who_waits(loops, self._threads)}")

    def _interrupt(self) -> KeyboardInterrupt | None:
        """Ctrl-C, if it struck one: another one may have failed of that, and ended before it."""
        for life in self.lives:
            if isinstance(life.failure, KeyboardInterrupt):
                return life.failure
        return None

    def _kill(self) -> None:
        """End what would not end by itself: its tasks are not asked any more."""
        self.xen.scheduler.ending = True
        everybody = [*self.lives, *self._replaced]
        cpus = [life.vcpu.cpu for life in everybody]
        cpus += [cpu for built in self._idling for cpu in built.started]
        for cpu in cpus:
            while not cpu.greenlet.dead:
                with suppress(GreenletExit):  # one that never ran lets it through
                    cpu.greenlet.throw(GreenletExit)
        self.xen.scheduler.ended()
        for life in everybody:
            life.close()


def _is_final(trouble: BaseException) -> bool:
    """Whether the run cannot go on even to clean up: its tape has diverged, a processor is down."""
    return isinstance(trouble, SimulationOver) and not isinstance(trouble, BlockedForever)
