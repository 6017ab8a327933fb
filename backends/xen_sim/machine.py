"""A simulated machine: Xen, its domains, and the life of a run.

    machine = Machine()
    machine.boot("dom0", server)
    machine.boot("guest", client)
    machine.run()                   # {"dom0": what server returned, "guest": ...}

No state is global: two machines live side by side in one process.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, get_args

from greenlet import GreenletExit, getcurrent, greenlet

from activations.errors import BackendError, BlockedForever
from activations.loop import EventLoop, VirtualEventLoop
from activations.lower import Clock as ClockName
from xen_sim.domain import XenDomain
from xen_sim.guest import Guest, WallGuest
from xen_sim.hypervisor import Hypervisor
from xen_sim.interrupt import interruptible
from xen_sim.life import Life, Main
from xen_sim.lower_half import Solo5
from xen_sim.processor import Processor
from xen_sim.tape import Seeded, Tape
from xen_sim.trace import Trace

CANCEL_REQUESTS = 10
"""How often a program is asked to end before it is ended."""


class Machine:
    """A Xen and its domains on one processor and one clock.

    `seed` or `tape` answer what could go either way (see `tape`); without them everything is
    first come, first served. With `explore`, a vCPU can be preempted between any two steps on
    shared memory, its own or Xen's. `trace` keeps what happened.
    """

    def __init__(
        self,
        *,
        clock: ClockName = "virtual",
        seed: int | None = None,
        tape: Tape | None = None,
        explore: bool = False,
        trace: Trace | None = None,
    ) -> None:
        if clock not in get_args(ClockName):
            raise BackendError(f"unknown clock {clock!r}: it is 'virtual' or 'wall'")
        if seed is not None and tape is not None:
            raise BackendError("a machine takes a seed or a tape, not both")
        chooser = Seeded(seed) if seed is not None else tape
        self.xen = Hypervisor(clock, chooser, explored=explore, trace=trace)
        self.lives: list[Life] = []
        self._guests: dict[EventLoop, Guest] = {}

    # Domains

    def create(self, name: str, *, solo5: type[Solo5] = Solo5) -> EventLoop:
        """A domain, running on whatever greenlet runs the loop this returns.

        The one called `dom0` gets domid 0; the others are numbered from 1. `solo5` is the lower
        half to build it with.
        """
        return self._build(name, solo5)[1]

    def boot(self, name: str, main: Main, *, solo5: type[Solo5] = Solo5) -> Life:
        """A domain that runs `main(domain)` when the machine runs."""
        life = Life(*self._build(name, solo5), main)
        self.lives.append(life)
        return life

    def _build(self, name: str, solo5: type[Solo5]) -> tuple[XenDomain, EventLoop]:
        domain = self.xen.create(name)
        virtual = self.xen.clock.name == "virtual"
        guest = (Guest if virtual else WallGuest)(domain, solo5)
        loop = (VirtualEventLoop if virtual else EventLoop)(guest)
        self._guests[loop] = guest
        return domain, loop

    def suspend(self, loop: EventLoop) -> None:
        """Suspend this loop's domain and resume it at once, as a migration does: everything bound
        before is gone, and whoever waited is told `GenerationEnded`."""
        guest = self._guests[loop]
        guest.domain.suspend()
        guest.start()
        loop.domain.new_generation()
        guest.domain.vcpu.kick()

    # Running

    def run(self) -> dict[str, Any]:
        """Run every booted domain to its end; give what each returned, by name.

        The first failure ends the others and is raised; `BlockedForever` says who waits for what.
        """
        failed = self.run_out()
        if failed is not None:
            raise failed
        return {life.domain.name: life.result for life in self.lives}

    def run_out(self) -> BaseException | None:
        """As `run`, but the first failure is returned; each is in its `Life`."""
        processor = self.xen.processor
        with interruptible(processor):
            failure = self._run_out(processor)
        if processor.interrupted:  # too late for anybody to take it
            return failure or KeyboardInterrupt()
        return failure

    def _run_out(self, processor: Processor) -> BaseException | None:
        processor.hub = getcurrent()
        for life in self.lives:
            life.domain.vcpu.greenlet = greenlet(life)
            life.domain.vcpu.greenlet.gr_context = copy_context()
            life.domain.vcpu.greenlet.switch()
            life.domain.vcpu.asleep = True
            processor.make_runnable(life.domain.vcpu)
        failure: BaseException | None = None
        requests = 0
        try:
            while any(not life.ended for life in self.lives):
                trouble = self._until_something_ends()
                if trouble is not None:
                    failure = failure or trouble
                    requests += 1
                    if requests > CANCEL_REQUESTS:
                        break
                    for life in self.lives:
                        life.cancel()
        finally:
            self._kill()
            processor.hub = None
        return self._interrupt() or failure

    def _until_something_ends(self) -> BaseException | None:
        """Run until a domain has ended, or nobody can run; give the trouble there is with that."""
        processor = self.xen.processor
        processor.stuck = None
        living = [life for life in self.lives if not life.ended]
        try:
            processor.run(processor.next(), None)
        except BlockedForever as error:
            processor.stuck = error
        except KeyboardInterrupt as error:
            return error
        if processor.stuck is not None:
            loops = [life.loop for life in living if not life.ended]
            return processor.blocked(processor.stuck, loops)
        for life in living:
            if life.ended and life.failure is not None:
                return life.failure
        return None

    def _interrupt(self) -> KeyboardInterrupt | None:
        """Ctrl-C, if it struck one: another one may have failed of that, and ended before it."""
        for life in self.lives:
            if isinstance(life.failure, KeyboardInterrupt):
                return life.failure
        return None

    def _kill(self) -> None:
        """End what would not end by itself: its tasks are not asked any more."""
        for life in self.lives:
            while not life.domain.vcpu.greenlet.dead:
                life.domain.vcpu.greenlet.throw(GreenletExit)
            if not life.loop.is_closed():
                life.loop.close()
