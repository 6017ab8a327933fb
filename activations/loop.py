"""The event loop: asyncio's own, with a lower half as its selector.

asyncio asks its selector one question a turn: what is ready, and how long may I sleep? `Idle`
answers it as the upper half of MirageOS does: set the one-shot timer, block, demux, wake. Futures
that complete in there run in the same turn. Everything else (tasks, transports, subprocesses,
signals) is stock asyncio and stays so.

Of asyncio's private names this module and `virtual_loop` use a few, each for want of a public one:
`_ready`, to make a timer's existing handle run; `_stopping`, `_process_events`, `_cancelled` and
`_run`, of which a turn is made; `_timer_handle_cancelled`, by which a handle tells its loop;
`_closed`, `_check_closed`, `_check_thread`, `_check_callback` and `_source_traceback`, so that our
calls complain as asyncio's do; `_current_handle` and `_format_handle`, by which debug mode tells of
a slow callback; the three methods about the pipe by which a loop wakes itself (selector_events.py);
and what `signals` and `struck` say of themselves.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from asyncio import Handle, iscoroutine
from asyncio.format_helpers import _format_callback_source
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from inspect import iscoroutinefunction
from socket import socket
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from activations import signals, watched
from activations.accelerator import accelerator
from activations.domain import Domain
from activations.errors import ActivationsError
from activations.lower import LowerHalf, Ready
from activations.port import Port
from activations.shortcut import shorten
from activations.struck import mend
from activations.timers import AGES, SleepQueue, nanoseconds

if TYPE_CHECKING:
    from activations._accelerator import Turn

Ts = TypeVarTuple("Ts")

_NO_DESCRIPTORS: Ready = []


class Idle(selectors.BaseSelector):
    """The idle step, in the shape of a selector."""

    def __init__(self, lower: LowerHalf, sleepers: SleepQueue) -> None:
        self.lower = lower
        self.sleepers = sleepers
        self.ports: dict[int, Port]
        self.ready: deque[asyncio.Handle]
        self.first: list[asyncio.Handle | None] = [None]
        """In here, what the turn takes first, for `struck.mend`."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set anything but `select`: what patches it (aiotools' and looptime's clocks do, to jump
        over idle time) waits for time-outs that asyncio never asks for here."""
        self._check_patch(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._check_patch(name)  # unittest.mock takes away what it could not put there
        super().__delattr__(name)

    def _check_patch(self, name: str) -> None:
        if name == "select":
            raise ActivationsError(
                "this loop keeps its own time, so its selector cannot be patched: for time that "
                'jumps take clock="virtual" (`activations.new_event_loop(clock="virtual")`)'
            )

    def select(self, timeout: float | None = None) -> Ready:
        """One turn below the tasks. `timeout` is None when nothing is ready to run: asyncio's own
        timers are never used, so it asks for nothing between "do not wait" and "as long as it
        takes"."""
        first = self.first
        first[0] = None
        lower = self.lower
        sleepers = self.sleepers
        if timeout is None:
            descriptors = lower.block(sleepers.next_deadline() if sleepers.heap else None)
        else:
            descriptors = lower.poll()
        if fired := lower.demux():
            ports = self.ports
            now = lower.time_ns()
            for number in fired:
                if port := ports.get(number):
                    port._fire(now)
            lower.unmask(fired)
        if sleepers.heap:
            sleepers.wake(lower.time_ns(), self.ready)
        if self.ready:
            first[0] = self.ready[0]
        return descriptors or _NO_DESCRIPTORS

    # Descriptors are the lower half's affair.

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.lower.descriptors.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.lower.descriptors.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.lower.descriptors.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.lower.descriptors.get_map()

    def close(self) -> None:
        self.lower.descriptors.close()


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop that serves one Xen domain through its lower half.

    `domain` is what application code sees of it. `time()` is the lower half's clock in seconds;
    timers keep integer nanoseconds, and equal deadlines fire in the order in which they were set.
    """

    _ready: deque[asyncio.Handle]
    _closed: bool
    _debug: bool
    _stopping: bool
    _process_events: Callable[[Ready], None]
    _csock: socket
    _signal_handlers: dict[int, asyncio.Handle]
    _handle_signal: Callable[[int], None]
    _check_signal: Callable[[int], None]
    _check_closed: Callable[[], None]
    _check_thread: Callable[[], None]
    _check_callback: Callable[[object, str], None]

    def __init__(self, lower: LowerHalf) -> None:
        self._lower = lower
        self._time_ns = lower.time_ns
        self._sleepers = SleepQueue(lower.time_ns)
        self._idle = idle = Idle(lower, self._sleepers)
        super().__init__(idle)
        self.domain: Domain = Domain(lower, self)
        idle.ports = self.domain.events.ports
        idle.ready = self._ready
        self._unwatch = watched.watch(self)
        self._turn = self._accelerated()
        self.set_debug(self._debug)

    def close(self) -> None:
        """As asyncio's; with it goes its lower half, with all that it holds."""
        if self.is_running() or self.is_closed():
            super().close()
            return
        if not sys.is_finalizing():
            for number in list(self._signal_handlers):  # before what wakes the loop is closed
                self.remove_signal_handler(number)
        try:
            self.domain.close()
        finally:
            super().close()
            self._unwatch()
            self._slow_down()
            if self._turn is not None:
                self._turn.closed = True
                self._turn = None
            self._idle.first[0] = None
            self._sleepers.clear()
            self._lower.close()

    def set_debug(self, enabled: bool) -> None:
        """As asyncio's; a loop in debug mode does without its shortcuts."""
        super().set_debug(enabled)
        if self._debug:
            self._slow_down()
        else:
            self._quicken()

    # What is quicker out of debug mode: names of this very loop, that hide those of its class

    _turn: Turn | None = None

    def _accelerated(self) -> Turn | None:
        """The accelerator's half of this loop, unless its class or its ports do otherwise."""
        ours = self.domain.events.port_class is Port and all(
            getattr(type(self), name) is getattr(EventLoop, name)
            for name in ("_run_once", "call_soon")
        )
        if accelerator is None or not ours:
            return None
        idle, lower = self._idle, self._lower
        made: Turn = accelerator.Turn(
            *(self, self._sleepers, idle.ports, idle.ready, Port, _report, self.call_soon),
            *(lower.block, lower.poll, lower.demux, lower.unmask, lower.time_ns),
        )
        return made

    def _quicken(self) -> None:
        shorten(self, get_debug=bool)  # False, and no frame: every future and every handle asks
        if self._turn is not None:
            shorten(self, call_soon=self._turn.call_soon, _run_once=self._turn.run_once)

    def _slow_down(self) -> None:
        for name in ("get_debug", "call_soon", "_run_once"):
            self.__dict__.pop(name, None)

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._debug or self._closed:
            self._check_closed()
            self._check_thread()
            self._check_callback(callback, "call_soon")
        handle = Handle(callback, args, self, context)
        if self._debug:
            made_above(handle, 1)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """asyncio's turn, less its timers: there are none here. What it takes has asyncio's names,
        for which `struck` looks."""
        if self._debug:
            super()._run_once()  # type: ignore[misc]
            return
        ready = self._ready
        descriptors = self._idle.select(None if not ready and not self._stopping else 0)
        if descriptors:
            self._process_events(descriptors)
        ntodo = len(ready)
        handle: asyncio.Handle | None
        for _ in range(ntodo):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        handle = None  # what an exception keeps of this frame would keep the loop

    # Signals, which `signals` shares out among the loops of this process

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts
    ) -> None:
        if iscoroutine(callback) or iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        signals.listen(self, sig, asyncio.Handle(callback, args, self, None))

    def remove_signal_handler(self, sig: int) -> bool:
        self._check_signal(sig)
        return signals.forget(self, sig)

    def _process_self_data(self, data: bytes) -> None:
        """What woke the loop. The numbers of signals among it have been told of."""

    # Exceptions out of signal handlers

    def run_forever(self) -> None:
        try:
            super().run_forever()
        except BaseException as error:
            mend(self._ready, self._idle.first[0], self, _TURN, _SCHEDULING, error)
            raise

    # Time

    @property
    def asleep(self) -> int:
        """How many timers are set."""
        return len(self._sleepers)

    def time(self) -> float:
        return self._time_ns() / 1e9

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        deadline = self._time_ns() + nanoseconds(delay)
        when = deadline / 1e9 if deadline < AGES else self.time() + delay
        return self._sleep(deadline, when, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._sleep(nanoseconds(when), when, callback, args, context)

    def _sleep(
        self,
        deadline: int,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> asyncio.TimerHandle:
        if self._debug or self._closed:
            self._check_closed()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_at")
            made_above(handle, 2)
        handle._scheduled = True  # type: ignore[attr-defined]
        self._sleepers.add(deadline, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]
            self._sleepers.note_cancelled()


_TURN, _SCHEDULING = EventLoop._run_once.__code__, EventLoop.call_soon.__code__


def _report(handle: asyncio.Handle, error: BaseException) -> None:
    """As `Handle._run` does with what a callback raised."""
    try:
        raise error
    except BaseException as raised:
        callback = _format_callback_source(handle._callback, handle._args)  # type: ignore[attr-defined]
        context = {
            "message": f"Exception in callback {callback}",
            "exception": raised,
            "handle": handle,
        }
        if handle._source_traceback:  # type: ignore[attr-defined]
            context["source_traceback"] = handle._source_traceback  # type: ignore[attr-defined]
        handle._loop.call_exception_handler(context)  # type: ignore[attr-defined]


H = TypeVar("H", bound=asyncio.Handle)


def made_above(handle: H, frames: int) -> H:
    """In debug mode a handle knows where it was made, and says so in its repr and in errors: not
    in these last frames, which are ours."""
    del handle._source_traceback[-frames:]  # type: ignore[attr-defined]
    return handle
