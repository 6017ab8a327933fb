"""A fence: no load after it overtakes a store before it.

Two domains that share memory tell each other by a pair of words: each stores its own, then loads
the other's. x86 reorders just that pair. The accelerator has a barrier; Python has none, but
taking a lock and giving it back are locked instructions, each of which is one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from activations.accelerator import accelerator


def new_fence() -> Callable[[], None]:
    """What is called between the store and the load: each end of a ring has its own."""
    if accelerator is not None:
        fence: Callable[[], None] = accelerator.fence
        return fence
    return _lock_fence()


def _lock_fence() -> Callable[[], None]:
    """By a lock, which is never contended. An exception out of a signal handler may leave it taken:
    then it is given back the next time, which is a locked instruction too."""
    lock = Lock()

    def fence() -> None:
        lock.acquire(False)
        lock.release()

    return fence
