"""Who waits for what: the report of a simulation in which nothing can happen any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from activations.loop import EventLoop
from activations.port import Port

_ASYNCIO = str(Path(asyncio.__file__).parent)
"""Frames in here say how somebody waits, not for what."""


def who_waits(loops: Iterable[asyncio.AbstractEventLoop | None]) -> str:
    """A line for each task of each loop of ours."""
    lines = [
        f"  {loop.domain.name}: {line}"
        for loop in loops
        if isinstance(loop, EventLoop)
        for line in sorted(map(_task, _tasks(loop)))
    ]
    return "\n".join(lines) or "  no task is left"


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
