"""What a domain itself runs: tasks that are its drivers', and not the application's to cancel.

The end of a program cancels all of its tasks, as `asyncio.Runner` does it, and those clean up: they
flush a disk, they leave the block of a device. A driver is what they do that with. So its tasks are
none of those that asyncio knows of, and end by the hand of who began them alone.

What a driver then does takes its time: two ends part step by step. It is done to its end however
often it is cancelled meanwhile, and anyio cancels at every turn, until the block is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_own: WeakSet[asyncio.Task[Any]] = WeakSet()


def own(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Make a task the domain's: `asyncio.all_tasks()` does not give it any more.

    Of asyncio's names for those who extend it (docs.python.org, "Extending").
    """
    asyncio._unregister_task(task)
    _own.add(task)
    return task


def disown(task: asyncio.Task[Any]) -> None:
    """The task will not be run any more: it is listed neither here nor by asyncio."""
    asyncio._unregister_task(task)
    _own.discard(task)


def own_tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """The tasks of this loop that are its domain's and have not ended."""
    return {task for task in _own if not task.done() and task.get_loop() is loop}


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task's end, however often the one that waits is cancelled meanwhile; then raise
    the first of these cancellations. How the task ended is not raised."""
    from anyio import CancelScope  # late: the simulator is imported with this module

    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):  # or anyio would have this one do nothing else
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
    if cancelled is not None:
        raise cancelled


async def finish(work: Coroutine[Any, Any, T], name: str) -> T:
    """Do this to its end, in a task of its own called `name`, however often this one is cancelled
    meanwhile. Then raise what it raised, or else the first of these cancellations."""
    task = own(asyncio.create_task(work, name=name))
    try:
        await ended(task)
    except asyncio.CancelledError:
        task.result()
        raise
    return task.result()
