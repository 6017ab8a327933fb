"""Child processes that do not outlive this one, however it ends."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)  # loaded before any fork: the child may do very little


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it ends.

    That covers what no handler can, SIGKILL included.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
