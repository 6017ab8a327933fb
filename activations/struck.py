"""What an exception out of a signal handler breaks off in a turn of asyncio's, and how it is
mended.

Ctrl-C, `sys.exit` in a handler or a test's time-out are raised at nearly any instruction, and end
the run. asyncio lets go of a handle before it runs it, and a future of its callbacks before it
schedules them: struck in between, a task is never run again, and a program that cancels it waits
for ever (asyncio/base_events.py, `_run_once`, `call_soon`; of a hundred busy loops so struck,
thirteen). The frames that were struck, which the traceback has, know what they were about to do.
Left alone is the one instruction between taking a handle and naming it, but for the first handle of
a turn, which most turns have alone: to remember all of them costs a tenth where thousands are ready
at once.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Handle
from asyncio.base_events import (  # type: ignore[attr-defined]
    BaseEventLoop,
    _run_until_complete_cb,
)
from collections import deque
from collections.abc import Callable
from contextvars import Context
from types import CodeType, TracebackType
from typing import Any

_TURN: CodeType = BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
_RUN: CodeType = Handle._run.__code__


def mend(
    ready: deque[Handle],
    first: Handle | None,
    loop: BaseEventLoop,
    turn: CodeType,
    call_soon: CodeType,
    error: BaseException,
) -> None:
    """Make `ready` whole after a turn of the loop, that was to take `first` first, was ended by
    `error`. `turn` and `call_soon` are the loop's own, and name what they have as asyncio's do.

    What was to end this very run is left out: it would end the next one.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code in (turn, _TURN) and frame.f_locals["self"] is loop:
            # It counts what there is `ntodo`, and calls what it takes `handle`, and then runs it.
            unnamed = "ntodo" in frame.f_locals and frame.f_locals.get("handle") is None
            if unnamed and first is not None and not (ready and ready[0] is first):
                ready.appendleft(first)
        elif frame.f_code is _RUN and frame.f_locals["self"]._loop is loop:
            _put_back_what_was_not_run(ready, trace)
        elif frame.f_code is call_soon and frame.f_locals["self"] is loop:
            _schedule(ready, **frame.f_locals)
        trace = trace.tb_next
    for handle in ready:
        if handle._callback is _run_until_complete_cb:  # type: ignore[attr-defined]
            handle.cancel()


def _put_back_what_was_not_run(ready: deque[Handle], trace: TracebackType) -> None:
    """A function is struck before its first line, or after the last. A traceback may have it twice
    (Python 3.11.2)."""
    handle = trace.tb_frame.f_locals["self"]
    before = trace.tb_lineno == trace.tb_frame.f_code.co_firstlineno
    if before and not (ready and ready[0] is handle):
        ready.appendleft(handle)


def _schedule(
    ready: deque[Handle],
    callback: Callable[..., object],
    args: tuple[Any, ...],
    context: Context | None,
    self: AbstractEventLoop,
    **_: object,
) -> None:
    if not any(handle._args is args for handle in ready):
        ready.append(Handle(callback, args, self, context))
