"""An exception out of a signal handler, at a place of the test's choosing.

Python runs signal handlers between any two instructions, nearly, and what they raise is raised
there: Ctrl-C, `sys.exit` in a handler of SIGTERM, a test's time-out. `Striker(n)` raises `Struck`
before the n-th instruction of this project's code that runs while it is armed. asyncio's own code
is left alone: what breaks there breaks on every loop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import activations
import xen_linux
import xen_sim

_PACKAGES = (activations, xen_sim, xen_linux)
OURS = tuple(str(Path(str(package.__file__)).parent) for package in _PACKAGES)


class Struck(SystemExit):
    """What a signal handler raises, as `sys.exit()` in one does."""


class Striker:
    """Strikes once. Whoever runs on a greenlet of its own arms it there: frames are traced from
    where `arm` is called upwards, and what they call from then on."""

    def __init__(self, after: int) -> None:
        self.where = ""
        """The place that was struck; empty if none was."""
        self._left = after
        self._armed = False

    def arm(self) -> None:
        if self.where:
            return
        self._armed = True
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename.startswith(OURS):
                frame.f_trace, frame.f_trace_opcodes = self._instruction, True
            frame = frame.f_back
        sys.settrace(self._call)

    @property
    def armed(self) -> bool:
        return self._armed

    def disarm(self) -> None:
        self._armed = False
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and self._armed:
            if self._left == 0:
                code = frame.f_code
                file = Path(code.co_filename).name
                self.where = f"{code.co_qualname}, {file}:{frame.f_lineno}, +{frame.f_lasti}"
                self._armed = False
                raise Struck(3)
            self._left -= 1
        return self._instruction
