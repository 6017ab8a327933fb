"""Ctrl-C, taken where it does no harm.

Python raises `KeyboardInterrupt` wherever it happens to be. In the middle of completing a future,
or of waking a vCPU, that leaves a waiter that will not be woken: the program cannot even clean up,
and what is reported in the end is that it blocks; in the making of a loop it leaves half of one. So
while a scenario is booted, and while a machine runs, Ctrl-C is noted, and raised when the processor
is next given away. A second one, before the first was taken, is raised at once; and so is the first
after `PATIENCE`, since a program that computes or blocks for so long may do it for ever, and one
that is killed (`timeout`, a supervisor's SIGTERM) is so once.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal as handler_of  # type: ignore[import-not-found]
from _signal import signal as handle
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from activations.signals import unheard
from xen_sim.schedule.scheduler import Scheduler

PATIENCE = 3.0
"""Seconds."""
_SIGINT = int(signal.SIGINT)
"""`signal.signal` makes enumerations of what it is given and gives, which explored runs, by the
thousand, can do without."""


@contextmanager
def interruptible(scheduler: Scheduler) -> Iterator[None]:
    """Inside the block, Ctrl-C is the processor's. Not where somebody else has taken charge of
    it, nor outside the main thread, which alone has a part in signals."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or handler_of(_SIGINT) is not signal.default_int_handler:
        yield
        return

    insisting: list[_Insistence] = []

    def on_sigint(number: int, frame: FrameType | None) -> None:
        scheduler.interrupt()
        insisting.append(_Insistence(scheduler))

    handle(_SIGINT, on_sigint)
    try:
        yield
    finally:
        for each in insisting:
            each.end()
        handle(_SIGINT, signal.default_int_handler)


class _Insistence:
    """Has a Ctrl-C that was noted come again, unless it is taken in time, or this is ended."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._thread = threading.get_ident()
        self._over = threading.Event()
        self._one = threading.Lock()
        self._waits = threading.Thread(target=self._insist, name="Ctrl-C insists", daemon=True)
        self._waits.start()

    def end(self) -> None:
        with unheard():
            with self._one:
                self._over.set()
            self._waits.join()

    def _insist(self) -> None:
        self._over.wait(PATIENCE)
        with self._one:  # or it would strike what comes after the end
            if self._scheduler.interrupted and not self._over.is_set():
                signal.pthread_kill(self._thread, signal.SIGINT)
