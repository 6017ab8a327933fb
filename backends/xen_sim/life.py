"""A vCPU's run, from its first instruction to its last."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from activations.backend import new_generation
from activations.domain import Domain
from activations.errors import LeakWarning, XenError
from activations.loop import EventLoop
from activations.own import disown, own_tasks
from activations.running import from_program, program
from xen_sim.guests.asyncio_guest import AsyncioState
from xen_sim.guests.plain import PlainGuest
from xen_sim.schedule.kept import Kept, nothing

if TYPE_CHECKING:
    from xen_sim.build import Built
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.vcpu import VCPU

Main = Callable[[Domain], Awaitable[Any]]

MOST_WAITS = 100
"""Of a coroutine that is ended; more than it has blocks that wait as they are left."""


class Life(ABC):
    """One vCPU's run: its program, and how that ended."""

    loop: EventLoop | None = None
    """The event loop, where it has one."""
    bring_up: Callable[[], None] | None = None
    """What it does first: as a kernel that boots, start the vCPUs that have no program."""
    boots: Callable[[], object] | None = None
    """Boots a domain like this one once more; of a domain's lives the first has it."""
    mortal = False
    """Whether a fault may kill the domain."""

    def __init__(self, domain: XenDomain, vcpu: int) -> None:
        self.domain = domain
        self.vcpu: VCPU = domain.vcpus[vcpu]
        self.name: str = self.vcpu.cpu.name
        self.result: Any = None
        self.failure: BaseException | None = None
        self.ended: bool = False
        self.cancelled: bool = False

    def __call__(self) -> None:
        """From the first instruction to the last, on the vCPU's own greenlet."""
        hub = self.domain.xen.scheduler.hub
        assert hub is not None
        fresh = self._fresh()
        hub.switch()
        fresh.restore()
        try:
            if self.bring_up is not None:
                self.bring_up()
            self._live()
        except GreenletExit:
            pass
        except BaseException as error:
            self._failed(error)
        finally:
            self.ended = True
            self.vcpu.trace("end")

    def _fresh(self) -> Kept:
        """What the thread is to keep for it as it begins."""
        return nothing()

    def _returned(self, result: Any) -> None:
        self.result = result

    def _failed(self, error: BaseException) -> None:
        """The first failure is the one that counts."""
        self.failure = self.failure or error

    @abstractmethod
    def _live(self) -> None:
        """Run the program; what it raises is its failure."""

    @abstractmethod
    def cancel(self) -> bool:
        """Ask the program to end in an orderly way; false where it cannot be asked."""

    def die(self) -> None:
        """The domain was killed: nothing of this is run any more."""
        self.ended = self.cancelled = True

    @abstractmethod
    def close(self) -> None:
        """Give back what is left."""


class PlainLife(Life):
    """A plain function on vCPU 0."""

    def __init__(self, built: Built, main: Callable[[PlainGuest], Any]) -> None:
        super().__init__(built.domain, 0)
        self.guest: PlainGuest = PlainGuest(built.kernel(0))
        """What its program will be given: ports may be bound before the run, for one."""
        self._main = main

    def _live(self) -> None:
        self.vcpu.trace("start", domid=self.domain.domid)
        self._returned(self._main(self.guest))

    def cancel(self) -> bool:
        """A plain program cannot be asked: it goes on, and is ended with the run at the latest."""
        self.cancelled = True
        return False

    def close(self) -> None:
        self.domain.xen.destroy(self.domain)


class LoopLife(Life):
    """A program on an event loop."""

    loop: EventLoop

    def __init__(self, domain: XenDomain, vcpu: int, loop: EventLoop, main: Main) -> None:
        super().__init__(domain, vcpu)
        self.loop = loop
        self._main = main
        self._task: asyncio.Task[Any] | None = None

    def _fresh(self) -> Kept:
        return AsyncioState.fresh()

    def _live(self) -> None:
        self.vcpu.trace("start", domid=self.domain.domid)
        try:
            self._run(self.loop)
        except asyncio.CancelledError:
            if not self.cancelled:
                raise
        finally:
            if not self.domain.xen.scheduler.ending:  # else nothing runs any more: see `close`
                self._shut_down(self.loop)

    def _run(self, loop: EventLoop) -> None:
        self._task = loop.create_task(program(self._main, loop.domain), name=f"{self.name} main")
        if self.cancelled:  # before its first instruction
            self._task.cancel()
        try:
            self._returned(_to_its_end(loop, self._task))
        except KeyboardInterrupt as interrupt:  # whatever comes of giving everything back
            self._failed(interrupt)
            raise

    def _failed(self, error: BaseException) -> None:
        super()._failed(error.with_traceback(from_program(error)))

    def _shut_down(self, loop: EventLoop) -> None:
        """As `asyncio.Runner` does."""
        loop.run_until_complete(_cancel_leftovers())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def cancel(self) -> bool:
        """Its main task is cancelled."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
            self.vcpu.cpu.kick()
        return not self.ended

    def die(self) -> None:
        """What it holds is gone already, and is not to be given back once more."""
        super().die()
        self.loop.set_exception_handler(lambda loop, context: None)
        new_generation(self.loop)

    def close(self) -> None:
        """Its loop and its tasks, if it did not come to that. What is left is not a mistake of the
        program's: the run was over."""
        outside = AsyncioState.save()
        asyncio._set_running_loop(self.loop)  # what a `finally` begins belongs there
        try:
            while tasks := asyncio.all_tasks(self.loop) | own_tasks(self.loop):
                for task in tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _unwind(task.get_coro())
                    disown(task)
        finally:
            outside.restore()
        if not self.loop.is_closed():
            # a domain that maps its pages still is closed behind it: that is not why the run ended
            with warnings.catch_warnings(), suppress(XenError):
                warnings.simplefilter("ignore", LeakWarning)
                self.loop.close()
        self._task = None  # every `all_tasks` of a later machine would look at it


def _unwind(coroutine: Any) -> None:
    """End a coroutine, whatever it does about that: each wait of its is the last of what it was in,
    to the outermost. (What `close` has met with a wait is left for the garbage collector.)"""
    for _ in range(MOST_WAITS):
        try:
            coroutine.throw(GreenletExit)
        except BaseException:
            return
    with suppress(BaseException):
        coroutine.close()


def _to_its_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Any:
    """What the program returned. Ctrl-C cancels the program alone, as `asyncio.run` has it: what
    runs beside it goes on until it has cleaned up. If that fails, since everybody is leaving, it is
    Ctrl-C all the same."""
    try:
        return loop.run_until_complete(task)
    except KeyboardInterrupt as interrupt:
        if not task.done():  # it may have raised this itself
            task.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            except Exception as error:
                raise interrupt from error
        raise


async def _cancel_leftovers() -> None:
    """Cancel what the program left running, in the order of the tasks' names: `asyncio.Runner`
    would go by the order of a set, which is another one in every process."""
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in sorted(leftovers, key=lambda task: (len(task.get_name()), task.get_name())):
        task.cancel()
    await asyncio.gather(*leftovers, return_exceptions=True)
