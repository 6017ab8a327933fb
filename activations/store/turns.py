"""Whose turn it is to have transactions open.

xenstored lets each guest have so many open at once, and refuses the next: to a guest with thirty
disks that is a disk lost. So a client holds its own tasks back: each waits for its turn.

A task that has its turn may open further transactions meanwhile, since to hold it back would be to
have it wait for itself. What a guest opens so, beyond its quota, xenstored refuses.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

TURNS = 8
"""Tasks at a time. xenstored's quota is 10 unless it is told otherwise (its quota_max_transaction),
and the guest's kernel, and other programs there, need some of it too."""


class Turns:
    """At most so many tasks at once."""

    def __init__(self, most: int = TURNS) -> None:
        self._free = asyncio.Semaphore(most)
        self._open: Counter[asyncio.Task[Any] | None] = Counter()
        """How many transactions each task has open."""

    async def take(self) -> Callable[[], None]:
        """Wait for this task's turn to open one more; call what is given once it has ended."""
        task = asyncio.current_task()
        if not self._open[task]:
            await self._free.acquire()
        self._open[task] += 1
        return partial(self._ended, task)

    def _ended(self, task: asyncio.Task[Any] | None) -> None:
        self._open[task] -= 1
        if not self._open[task]:
            del self._open[task]
            self._free.release()
