"""A simulated machine: Xen, its domains, and the life of a run.

    machine = Machine()
    machine.boot("dom0", server)
    machine.boot("guest", client)
    machine.run()                   # {"dom0": what server returned, "guest": ...}

No state is global: two machines live side by side in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from activations.backend import Clock as ClockName
from activations.domain import Domain
from activations.errors import BackendError, BlockedForever
from activations.loop import EventLoop, VirtualEventLoop
from activations.running import serve
from xen_sim.clock import Calendar, Clock, VirtualClock, WallClock
from xen_sim.domain import XenDomain
from xen_sim.guest import Guest, WallGuest
from xen_sim.lower_half import Solo5
from xen_sim.processor import Processor
from xen_sim.tape import Seeded, Tape
from xen_sim.trace import Trace
from xen_sim.waiting import who_waits
from xen_sim.xenstored import Xenstored, toolstack

CANCEL_REQUESTS = 10
"""How often a program is asked to end before it is ended."""

Main = Callable[[Domain], Awaitable[Any]]


class Life:
    """One domain's run: its loop, its program, and how that ended."""

    def __init__(self, xen: XenDomain, loop: EventLoop, main: Main) -> None:
        self.xen = xen
        self.loop = loop
        self.result: Any = None
        self.failure: BaseException | None = None
        self.ended = False
        self.cancelled = False
        self._main = main
        self._task: asyncio.Task[Any] | None = None

    def __call__(self) -> None:
        """From the first instruction to the last, on the domain's own greenlet.

        The hub starts it and gets control back at once: a greenlet begins as deep in the
        recursion limit as its starter stands, and another domain may stand deep.
        """
        hub = self.xen.machine.processor.hub
        assert hub is not None
        hub.switch()
        Processor.begin()
        self.xen.trace("start")
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                loop = runner.get_loop()
                self._task = loop.create_task(
                    _coroutine(serve(self._main, self.loop.domain)), name=f"{self.xen.name} main"
                )
                self.result = loop.run_until_complete(self._task)
                loop.run_until_complete(_cancel_leftovers())
        except GreenletExit:
            pass
        except asyncio.CancelledError as error:
            self.failure = None if self.cancelled else error
        except BaseException as error:
            self.failure = error
        finally:
            self.ended = True
            self.xen.trace("end")

    def cancel(self) -> None:
        """End the program in an orderly way: its main task is cancelled."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
            self.xen.vcpu.kick()


async def _coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _cancel_leftovers() -> None:
    """Cancel what the program left running, in the order of the tasks' names: `asyncio.Runner`
    would go by the order of a set, which is another one in every process."""
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in sorted(leftovers, key=lambda task: (len(task.get_name()), task.get_name())):
        task.cancel()
    await asyncio.gather(*leftovers, return_exceptions=True)


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
        if seed is not None and tape is not None:
            raise BackendError("a machine takes a seed or a tape, not both")
        self.calendar = Calendar()
        self.clock: Clock = (VirtualClock if clock == "virtual" else WallClock)(self.calendar)
        self.processor = Processor(self.clock, Seeded(seed) if seed is not None else tape)
        self.explored = explore
        self.trace = trace
        self.domains: dict[int, XenDomain] = {}
        self.xenstored = Xenstored()
        toolstack.introduce_dom0(self.xenstored)
        self.lives: list[Life] = []
        self._guests: dict[EventLoop, Guest] = {}
        self._frames = 0
        self._next_domid = 1

    def new_frame(self) -> int:
        """The number of a frame that nobody has yet."""
        self._frames += 1
        return self._frames

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
        if name == "dom0":
            domid = 0
        else:
            domid = self._next_domid
            self._next_domid += 1
        if domid in self.domains or any(d.name == name for d in self.domains.values()):
            raise BackendError(f"this machine has a domain called {name!r} already")
        domain = self.domains[domid] = XenDomain(self, domid, name)
        if domid:
            toolstack.introduce(self.xenstored, domid, name)
        guest = (Guest if self.clock.name == "virtual" else WallGuest)(domain, solo5)
        loop = (VirtualEventLoop if self.clock.name == "virtual" else EventLoop)(guest)
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

    def forget(self, domain: XenDomain) -> None:
        """A domain is gone, and xenstored is told."""
        domain.destroy()
        if self.domains.pop(domain.domid, None):
            toolstack.release(self.xenstored, domain.domid)

    # Running

    def run(self) -> dict[str, Any]:
        """Run every booted domain to its end; give what each returned, by name.

        The first failure ends the others and is raised; `BlockedForever` says who waits for what.
        """
        failed = self.run_out()
        if failed is not None:
            raise failed
        return {life.xen.name: life.result for life in self.lives}

    def run_out(self) -> BaseException | None:
        """As `run`, but the first failure is returned; each is in its `Life`."""
        processor = self.processor
        processor.hub = getcurrent()
        for life in self.lives:
            life.xen.vcpu.greenlet = greenlet(life)
            life.xen.vcpu.greenlet.gr_context = copy_context()
            life.xen.vcpu.greenlet.switch()
            life.xen.vcpu.asleep = True
            processor.make_runnable(life.xen.vcpu)
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
        return failure

    def _until_something_ends(self) -> BaseException | None:
        """Run until a domain has ended, or nobody can run; give the trouble there is with that."""
        processor = self.processor
        processor.stuck = None
        living = [life for life in self.lives if not life.ended]
        try:
            processor.run(processor.next(), None)
        except BlockedForever as error:
            processor.stuck = error
        except KeyboardInterrupt as error:
            return error
        if processor.stuck is not None:
            waiting = who_waits(life.loop for life in living if not life.ended)
            return BlockedForever(f"{processor.stuck}:\n{waiting}")
        for life in living:
            if life.ended and life.failure is not None:
                return life.failure
        return None

    def _kill(self) -> None:
        """End what would not end by itself: its tasks are not asked any more."""
        for life in self.lives:
            while not life.xen.vcpu.greenlet.dead:
                life.xen.vcpu.greenlet.throw(GreenletExit)
            if not life.loop.is_closed():
                life.loop.close()
