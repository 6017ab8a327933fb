"""How the command ends, whatever ends it.

Every end but SIGKILL goes the way of Ctrl-C: what runs is cancelled, cleans up, and parts with
other domains; then the exit status says what the reason was. So `kill` and a terminal that is
closed are made a Ctrl-C, unless a subcommand knows better, and so is an output that is lost: see
`streams`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from activations.cli.output import Reporter
from activations.cli.status import FAILED, HUNG_UP, INTERRUPTED, NOT_TRIED, TERMINATED, WELL
from activations.errors import ActivationsError

ENDS = {signal.SIGTERM: TERMINATED, signal.SIGHUP: HUNG_UP}
"""Signals that end the command, besides Ctrl-C, and the exit status that says so."""


class Ending:
    """Why the command ends before it is done. The first reason counts."""

    begun = False
    status: int | None = None
    """The exit status that goes with it; None where the subcommand has one of its own."""

    def forget(self) -> None:
        """Another command begins."""
        self.begun, self.status = False, None

    def begin(self, status: int | None = None) -> bool:
        """There is a reason to end; whether it is the first."""
        first = not self.begun
        if first:
            self.begun, self.status = True, status
        return first


ENDING = Ending()
"""Of the command that this process runs."""


@contextmanager
def orderly() -> Iterator[None]:
    """Inside the block `ENDS` are a Ctrl-C with an exit status of their own. Those that are ignored
    stay so, as SIGHUP below `nohup`."""
    ENDING.forget()
    ours = threading.current_thread() is threading.main_thread()
    taken = [each for each in ENDS if ours and signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, _as_ctrl_c)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    ENDING.begin(ENDS[signal.Signals(number)])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&`
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def when_told(loop: asyncio.AbstractEventLoop, end: Callable[[], object]) -> None:
    """Have `end` called at any of `ENDS`, while this loop runs."""

    def heard(number: int) -> None:
        ENDING.begin(ENDS[signal.Signals(number)])
        end()

    for each in ENDS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, heard, each)


def status_of(
    work: Callable[[], int | None],
    reporter: Reporter,
    *,
    failures: tuple[type[ActivationsError], ...] = (),
) -> int:
    """Do it; give the exit status it gave, 0 for None.

    `FAILED` after one of `failures`, `NOT_TRIED` after any other `ActivationsError`, `INTERRUPTED`
    after Ctrl-C; the reporter is told of each, and closed.
    """
    try:
        return work() or WELL
    except failures as error:
        reporter.failed(error)
        return FAILED
    except ActivationsError as error:
        reporter.failed(error)
        return NOT_TRIED
    except KeyboardInterrupt:
        reporter.interrupted()
        return INTERRUPTED
    finally:
        reporter.close()
