"""How the command ends, whatever ends it.

Every end but SIGKILL goes the way of Ctrl-C: what runs is cancelled, cleans up, and parts with
other domains; then the exit status says what the reason was. So `kill` and a terminal that is
closed are made a Ctrl-C, unless a subcommand knows better, and so is an output that is lost: see
`streams`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from activations.cli.status import FAILED, HUNG_UP, INTERRUPTED, NOT_TRIED, TERMINATED, WELL
from activations.errors import ActivationsError
from activations.signals import unheard

if TYPE_CHECKING:
    from activations.cli.output import Reporter

ENDS = {signal.SIGTERM: TERMINATED, signal.SIGHUP: HUNG_UP}
"""Signals that end the command, besides Ctrl-C, and the exit status that says so."""
MOMENT = 0.01
"""Seconds."""


class Ending:
    """Why the command ends before it is done. The first reason counts."""

    begun: bool = False
    status: int | None = None
    """The exit status that goes with it; None where the subcommand has one of its own."""
    taken: Sequence[signal.Signals] = ()
    """Those of `ENDS` that are a Ctrl-C now, and were the system's."""

    def forget(self) -> None:
        """Another command begins."""
        self.begun, self.status = False, None

    def told(self, number: signal.Signals) -> None:
        """One of `ENDS` is a reason."""
        self.begin(ENDS[number])

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
    ENDING.taken = [each for each in ENDS if ours and signal.getsignal(each) is signal.SIG_DFL]
    try:
        with unheard():
            for each in ENDING.taken:
                signal.signal(each, _as_ctrl_c)
        with _insistent():
            yield
    finally:
        give_back()


def give_back() -> None:
    """What `orderly` has taken is the system's again. Who catches a Ctrl-C outside of the block
    calls it once more: that may have come just as the block was about to."""
    with unheard():
        for each in ENDING.taken:
            signal.signal(each, signal.SIG_DFL)
        ENDING.taken = ()


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    ENDING.told(signal.Signals(number))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&`
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _insistent() -> Iterator[None]:
    """Inside the block no Ctrl-C is lost. Python drops it where it strikes in a finalizer, or in a
    callback of the garbage collector's or of an import's: then it comes again a moment later, once
    Python has told of it, where it would be dropped as well."""
    before, over, one = sys.unraisablehook, threading.Event(), threading.Lock()
    main = threading.main_thread().ident or 0

    def come_again() -> None:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        again = signal.SIGTERM if ignored else signal.SIGINT
        while not over.wait(MOMENT):
            with one:  # or it would strike what comes after the block
                if not over.is_set() and not _runs(dropped.__code__, main):
                    return signal.pthread_kill(main, again)

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            threading.Thread(target=come_again, name="Ctrl-C comes again", daemon=True).start()
        else:
            before(what)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        with unheard():
            with one:
                over.set()
            sys.unraisablehook = before


def _runs(code: CodeType, thread: int) -> bool:
    """Whether this thread is in that function, or in what this one calls."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


@contextmanager
def when_told(
    loop: asyncio.AbstractEventLoop,
    end: Callable[[signal.Signals], object],
    *,
    ctrl_c: bool = False,
) -> Iterator[None]:
    """Inside the block have this loop call `end` at any of `ENDS`, and at Ctrl-C where that is
    asked for; before and after it each goes where it went. `end` says why the command ends."""
    asked = [each for each in ENDS if signal.getsignal(each) is not signal.SIG_IGN]
    if ctrl_c:
        asked.append(signal.SIGINT)
    before = {each: signal.getsignal(each) for each in asked}
    try:
        with unheard():
            for each in asked:
                loop.add_signal_handler(each, end, each)
        yield
    finally:
        with unheard():  # in between, asyncio would let them kill the process
            for each in asked:
                loop.remove_signal_handler(each)
                signal.signal(each, before[each])


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
