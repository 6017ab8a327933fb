"""Ctrl-C, taken where it does no harm.

Python raises `KeyboardInterrupt` wherever it happens to be. In the middle of completing a future,
or of waking a vCPU, that leaves a waiter that will not be woken: the program cannot even clean up,
and what is reported in the end is that it blocks; in the making of a loop it leaves half of one. So
while a scenario is booted, and while a machine runs, Ctrl-C is noted, and raised when the processor
is next given away. A second one, before the first was taken, is raised at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xen_sim.schedule.scheduler import Scheduler


@contextmanager
def interruptible(scheduler: Scheduler) -> Iterator[None]:
    """Inside the block, Ctrl-C is the processor's. Not where somebody else has taken charge of
    it, nor outside the main thread, which alone has a part in signals."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def on_sigint(number: int, frame: FrameType | None) -> None:
        scheduler.interrupt()

    signal.signal(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
