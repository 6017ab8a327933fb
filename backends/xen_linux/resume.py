"""Hearing that the domain was suspended and resumed: saved and restored, or migrated.

Linux tells its programs nothing of it. But its xenbus driver sets every watch anew as it resumes,
and xenstored sends an event for each that is set: so a watch of a node that is not written to fires
when the domain was resumed, and only then. A suspend that was called off, as `xl save -c` ends,
sets none and costs no port.

Programs run again a moment before the driver hands these events out. A program that is about to
bind or close a port in that moment can see that there was a suspend: the clock that counts it is
ahead of the one that does not, by more than before. Then one more watch is set. Its first event is
handed out after those of the resume, so when it has come, either the word of a resume has, or there
was none.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from activations.abi.xs_wire import MessageType
from activations.errors import BackendError
from activations.store.wire import Decoder
from xen_linux import store

NODE = "domid"
"""Below the domain's own home. The toolstack writes it once, before the domain runs."""

_A_SUSPEND = 0.001
"""Seconds by which the two clocks part in any suspend, and in nothing else."""
_CHUNK = 4096


class Resumes:
    """The word of each resume. Raises `BackendError` where xenstored does not answer."""

    def __init__(self) -> None:
        self._descriptor = store.watch_now(NODE)
        self._decoder = Decoder()
        self._suspended = _suspended()

    def fileno(self) -> int:
        """Readable when there may be word."""
        return self._descriptor

    def heard(self) -> bool:
        """Whether word of a resume has come since the last look."""
        heard = False
        with suppress(BlockingIOError):
            while data := os.read(self._descriptor, _CHUNK):
                for message in self._decoder.feed(data):
                    heard |= message.kind == MessageType.WATCH_EVENT
        return heard

    def happened(self) -> bool:
        """As `heard`; where a suspend has just ended, after the word must have come."""
        before, self._suspended = self._suspended, _suspended()
        if self._suspended - before > _A_SUSPEND:
            with suppress(BackendError):
                os.close(store.watch_now(NODE))
        return self.heard()

    def close(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _suspended() -> float:
    """Seconds that this kernel has been suspended since it booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
