"""Who waits for what: the report of a simulation in which nothing can happen any more.

Somebody may wait for a thread. The loop refuses to start one, but not every library asks the loop:
so threads that were started while the simulation ran are named, and the clock that has them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from activations.loop import EventLoop, VirtualEventLoop
from activations.port import Port

_ASYNCIO = str(Path(asyncio.__file__).parent)
"""Frames in here say how somebody waits, not for what."""


Loops = Iterable[asyncio.AbstractEventLoop | None]


def who_waits(loops: Loops, before: Collection[threading.Thread]) -> str:
    """A line for each task of each loop of ours, and one for the threads that were not there
    `before`."""
    ours = [loop for loop in loops if isinstance(loop, EventLoop)]
    lines = [
        f"  {loop.domain.name}: {line}"
        for loop in ours
        for line in sorted(map(_task, _tasks(loop)))
    ]
    if threads := _threads(ours, before):
        lines.append(
            f"  threads were started ({', '.join(threads)}): on the virtual clock nobody hears of "
            'their end; run with clock="wall" (`activations run --clock wall`)'
        )
    return "\n".join(lines) or "  no task is left"


def _threads(loops: Iterable[EventLoop], before: Collection[threading.Thread]) -> list[str]:
    """The names of threads that run, or came to tell how they ended."""
    names = {thread.name for thread in threading.enumerate() if thread not in before}
    for loop in loops:
        if isinstance(loop, VirtualEventLoop):
            names |= loop.refused_threads
    return sorted(names)


def _tasks(loop: EventLoop) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks(loop) if task.get_name() != "xenstore reader"]


def _task(task: asyncio.Task[Any]) -> str:
    """What a task waits for: the chain of awaits is walked to the innermost one that says."""
    where, port = "", None
    step: Any = task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None)
        if frame is not None:
            code = frame.f_code
            owner = frame.f_locals.get("self")
            if isinstance(owner, Port):
                port = owner
                break
            if not code.co_filename.startswith(_ASYNCIO):
                where = f"{code.co_qualname}, {Path(code.co_filename).name}:{frame.f_lineno}"
        step = getattr(step, "cr_await", None)
    for_what = f"port {port.number} (to {port.remote})" if port else "something that never comes"
    return f"{task.get_name()!r} waits for {for_what}, in {where or 'no frame'}"
