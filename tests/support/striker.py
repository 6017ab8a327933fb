"""An exception out of a signal handler, at a place of the test's choosing.

Python runs signal handlers between nearly any two instructions, and what they raise is raised
there: Ctrl-C, `sys.exit` in a handler of SIGTERM, a test's time-out. `Striker(n)` raises `Struck`
before the n-th instruction of this project's code that runs while it is armed. What
runs the ready handles, asyncio's code and ours, is struck where Python does it, right after a call;
but not where a turn takes its second handle and those behind it (see `activations.struck`).
"""

from __future__ import annotations

import asyncio
import dis
import sys
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import activations
import xen_linux
import xen_sim
from activations import EventLoop

_PACKAGES = (activations, xen_sim, xen_linux)
OURS = tuple(str(Path(str(package.__file__)).parent) for package in _PACKAGES)


def _after_calls(code: CodeType) -> set[int]:
    calls = ("CALL", "CALL_FUNCTION_EX", "CALL_KW")
    instructions = pairwise(dis.get_instructions(code))
    return {after.offset for call, after in instructions if call.opname in calls}


ASYNCIOS = {
    function.__code__: _after_calls(function.__code__)
    for function in (
        asyncio.BaseEventLoop._run_once,  # type: ignore[attr-defined]
        asyncio.Handle._run,  # type: ignore[attr-defined]
        EventLoop._run_once,
    )
}


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
            self._trace(frame)
            frame = frame.f_back
        sys.settrace(self._call)

    @property
    def armed(self) -> bool:
        return self._armed

    def disarm(self) -> None:
        self._armed = False
        sys.settrace(None)

    def _trace(self, frame: FrameType) -> bool:
        if frame.f_code.co_filename.startswith(OURS) or frame.f_code in ASYNCIOS:
            frame.f_trace, frame.f_trace_opcodes = self._instruction, True
            return True
        return False

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._trace(frame):
            return None
        self._strike(frame)  # a call may be struck before its first instruction
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            places = ASYNCIOS.get(frame.f_code)
            if places is None or (frame.f_lasti in places and not frame.f_locals.get("handle")):
                self._strike(frame)
        return self._instruction

    def _strike(self, frame: FrameType) -> None:
        if not self._armed:
            return
        if self._left == 0:
            code = frame.f_code
            file = Path(code.co_filename).name
            self.where = f"{code.co_qualname}, {file}:{frame.f_lineno}, +{frame.f_lasti}"
            self._armed = False
            raise Struck(3)
        self._left -= 1
