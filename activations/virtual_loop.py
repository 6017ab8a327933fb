"""The event loop on a clock that jumps over idle time: asyncio, without the real world."""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio.base_events import _format_handle  # type: ignore[attr-defined]
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from typing import NoReturn, TypeVarTuple, Unpack

from activations.errors import VirtualClockError
from activations.loop import EventLoop, made_above
from activations.lower import VirtualLowerHalf
from activations.outside import refuse_outside

Ts = TypeVarTuple("Ts")


class VirtualEventLoop(EventLoop):
    """An event loop on a clock that jumps over idle time.

    What happens in the real world happens at no virtual time, so everything that would wait for
    it is refused with `VirtualClockError`: descriptors (by the lower half), threads, processes,
    signals, and the servers and connections that are made of them. A thread may call in while
    the loop does not run; then the thread that runs it is its home. It has no pipe to wake itself
    with either: a call from another domain of its thread wakes it through the lower half.
    """

    _thread_id: int | None
    """The thread that runs it (base_events.py), None while none does."""

    def __init__(self, lower: VirtualLowerHalf) -> None:
        self._wake = lower.wake
        self._running_handle: asyncio.Handle | None = None
        self._running_since = 0.0
        super().__init__(lower)
        self.refused_threads: set[str] = set()
        """The names of threads that tried to call in."""

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._thread_id not in (None, threading.get_ident()):
            self.refused_threads.add(threading.current_thread().name)
            _refuse("call_soon_threadsafe")
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        return made_above(handle, 1) if self.get_debug() else handle

    @property
    def _current_handle(self) -> asyncio.Handle | None:
        """What runs, in debug mode. asyncio measures how long that takes by the loop's clock, which
        stands still meanwhile: so it is measured here, by a real one."""
        return self._running_handle

    @_current_handle.setter
    def _current_handle(self, handle: asyncio.Handle | None) -> None:
        ended, self._running_handle = self._running_handle, handle
        now = self._real_time()
        took, self._running_since = now - self._running_since, now
        if ended is not None and took >= self.slow_callback_duration:
            logger.warning("Executing %s took %.3f seconds", _format_handle(ended), took)

    _real_time = staticmethod(time.perf_counter)

    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        self._wake()


def _refuse(what: str) -> NoReturn:
    raise VirtualClockError(
        f"{what}: real descriptors, threads, processes and signals need the wall clock; "
        'run with clock="wall" (`activations run --clock wall`, `Scenario(..., clock="wall")`)'
    )


refuse_outside(VirtualEventLoop, _refuse)
