"""A domain's run, from its first instruction to its last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from greenlet import GreenletExit

from activations.domain import Domain
from activations.loop import EventLoop
from activations.running import program
from xen_sim.domain import XenDomain
from xen_sim.processor import AsyncioState

Main = Callable[[Domain], Awaitable[Any]]


class Life:
    """One domain's run: its loop, its program, and how that ended."""

    def __init__(self, domain: XenDomain, loop: EventLoop, main: Main) -> None:
        self.domain = domain
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
        hub = self.domain.xen.processor.hub
        assert hub is not None
        fresh = AsyncioState.fresh()
        hub.switch()
        fresh.restore()
        self.domain.trace("start")
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                loop = runner.get_loop()
                self._task = loop.create_task(
                    program(self._main, self.loop.domain), name=f"{self.domain.name} main"
                )
                if self.cancelled:  # before its first instruction
                    self._task.cancel()
                try:
                    self.result = _to_its_end(loop, self._task)
                except KeyboardInterrupt as interrupt:  # whatever comes of giving everything back
                    self.failure = interrupt
                    raise
                loop.run_until_complete(_cancel_leftovers())
        except GreenletExit:
            pass
        except asyncio.CancelledError as error:
            self.failure = None if self.cancelled else error
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            self.ended = True
            self.domain.trace("end")

    def cancel(self) -> None:
        """End the program in an orderly way: its main task is cancelled."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()
            self.domain.vcpu.kick()


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
