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

import activations
from activations.loop import EventLoop
from activations.own import own_tasks
from activations.port import Port
from activations.store import Watch
from activations.virtual_loop import VirtualEventLoop

_ASYNCIO = str(Path(asyncio.__file__).parent)
"""Frames in here say how somebody waits, not for what."""
_OURS = str(Path(activations.__file__).parent)

Loops = Iterable[asyncio.AbstractEventLoop | None]


def who_waits(loops: Loops, before: Collection[threading.Thread]) -> str:
    """A line for each task of each loop of ours, and one for the threads that were not there
    `before`."""
    ours = [loop for loop in loops if isinstance(loop, EventLoop)]
    lines = [
        f"  {loop.domain.name}: {line}"
        for loop in ours
        for line in sorted(map(_task, asyncio.all_tasks(loop) | own_tasks(loop)))
    ]
    if threads := _threads(ours, before):
        lines.append(
            f"  threads were started ({', '.join(threads)}): on the virtual clock no loop is told "
            'of their end; run with clock="wall" (`activations run --clock wall`)'
        )
    return "\n".join(lines) or "  no task is left"


def _threads(loops: Iterable[EventLoop], before: Collection[threading.Thread]) -> list[str]:
    """The names of threads that run beside this one, or came to tell how they ended."""
    here = threading.current_thread()
    names = {each.name for each in threading.enumerate() if each not in before and each != here}
    for loop in loops:
        if isinstance(loop, VirtualEventLoop):
            names |= loop.refused_threads
    return sorted(names)


def waiters(loop: EventLoop) -> dict[int, str]:
    """Which task waits for each port that any waits for: `'dom0 main', server.py:6`."""
    found: dict[int, str] = {}
    for task in asyncio.all_tasks(loop) | own_tasks(loop):
        owner, place = _found(task)
        if isinstance(owner, Port):
            found[owner.number] = f"{task.get_name()!r}, {place.rpartition(', ')[2]}"
    return found


def _task(task: asyncio.Task[Any]) -> str:
    """What a task waits for, and where."""
    owner, place = _found(task)
    return f"{task.get_name()!r} waits for {_said(owner)}, in {place}"


def _found(task: asyncio.Task[Any]) -> tuple[object, str]:
    """What a task waits for, and where: the chain of awaits is walked to the innermost one that
    says. The place is the program's own, where one of its frames is in the chain."""
    owner: object = None
    place = own_place = ""
    step: Any = task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None)
        if frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, Port | Watch):
                break
            code = frame.f_code
            if not code.co_filename.startswith(_ASYNCIO):
                place = f"{code.co_qualname}, {Path(code.co_filename).name}:{frame.f_lineno}"
                own_place = own_place if code.co_filename.startswith(_OURS) else place
        step = getattr(step, "cr_await", None)
    return owner, own_place or place or "no frame"


def _said(owner: object) -> str:
    if isinstance(owner, Port):
        return f"port {owner.number} (to {owner.remote})"
    if isinstance(owner, Watch):
        return f"a change of {owner.path} in xenstore"
    return "something that never comes"
