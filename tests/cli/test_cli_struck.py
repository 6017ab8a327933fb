"""A signal that comes at any moment of a server's life ends it in order: the status says which it
was, what was made is removed, and nothing is said of it.

The command runs in this process, and the signal comes before a line of its code, of the loop's or
of what starts that: the n-th line, for every n within some days, until it has come to rest and
waits.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.drawn import by_turns
from support.pace import patience

import activations
import xen_sim
from activations.cli import main
from activations.cli.ending import ENDS, MOMENT, orderly

FOLDERS = tuple(
    str(Path(str(module.__file__)).parent) for module in (activations, xen_sim, asyncio)
)
AT_REST = "at rest"
LINES = [(0, 23), *by_turns(4, [(first, 4) for first in range(4)])]
"""From one on every so many: in four days it is every one."""
Lines = tuple[int, int]
"""The first of them, and how many further the next one is."""
SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name
)


def by_lines(lines: Lines) -> str:
    return "{}+{}".format(*lines)


class Caller:
    """Sends this process a signal before the n-th line that is run once the command has taken
    charge of its end; 0 is the first. `where` is that line, empty if it did not come to that."""

    def __init__(self, number: signal.Signals, after: int) -> None:
        self.where = ""
        self.number = number
        self._left = after
        self._struck = threading.Lock()

    def is_first(self) -> bool:
        """Whether nothing has struck yet, which it has then: a second Ctrl-C may leave things."""
        return self._struck.acquire(blocking=False)

    def __enter__(self) -> Caller:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(FOLDERS) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and not self.where and _in_charge():
            if self._left == 0 and self.is_first():
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                signal.raise_signal(self.number)
            self._left -= 1
        return self._line


def _in_charge() -> bool:
    return all(signal.getsignal(each) is not signal.SIG_DFL for each in ENDS)


def struck_everywhere(
    number: signal.Signals, lines: Lines, words: list[str], rests: Callable[[], bool]
) -> Iterator[str]:
    """Run the command again and again, struck at another line each time, and at last once
    `rests` says that it waits; after each the line."""
    for after in count(*lines):
        caller, over = Caller(number, after), threading.Event()
        striking = threading.Thread(target=strike_at_rest, args=(caller, rests, over))
        striking.start()
        try:
            with caller:
                status = main(words)
        finally:
            over.set()
            striking.join()
        assert status == 128 + number, caller.where
        yield caller.where
        if caller.where == AT_REST:
            return


def strike_at_rest(caller: Caller, rests: Callable[[], bool], over: threading.Event) -> None:
    while not over.wait(0.02):
        if not caller.where and rests() and caller.is_first():
            caller.where = AT_REST
            signal.pthread_kill(threading.main_thread().ident or 0, caller.number)


@pytest.fixture(autouse=True)
def nothing_traced() -> Iterator[None]:
    """And a collection looks at what the command made, not at all that pytest holds besides."""
    before = sys.gettrace()
    gc.collect()
    gc.freeze()
    yield
    sys.settrace(before)


@pytest.mark.timeout(300)
@SIGNALS
@pytest.mark.parametrize("lines", LINES, ids=by_lines)
def test_at_any_line_it_ends_a_server_in_order(
    number: signal.Signals, lines: Lines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    socket = tmp_path / "socket"
    places = []
    for place in struck_everywhere(number, lines, ["store", "serve", str(socket)], socket.exists):
        places.append(place)
        assert not socket.exists(), place
        assert not capfd.readouterr().err.strip(), place
    assert len(places) > 10


def test_at_any_line_signals_go_back_where_they_went(capfd: pytest.CaptureFixture[str]) -> None:
    for after in count():
        caller = Caller(signal.SIGINT, after)
        with caller:
            main(["--version"])
        assert {signal.getsignal(each) for each in ENDS} == {signal.SIG_DFL}, caller.where
        if not caller.where:
            break
    assert after > 10


class DroppedCtrlC:
    """What is raised in a finalizer goes nowhere."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def drop_one_and_wait() -> None:
    until = time.monotonic() + patience(10)
    with orderly(), pytest.raises(KeyboardInterrupt):
        DroppedCtrlC()
        while time.monotonic() < until:
            time.sleep(0.001)


def test_a_ctrl_c_that_python_drops_comes_again() -> None:
    drop_one_and_wait()


def test_nor_is_it_lost_where_python_takes_its_time_to_drop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be dropped once more, if it came meanwhile."""
    start = threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        start(thread)
        until = time.monotonic() + 10 * MOMENT
        while time.monotonic() < until:
            pass

    monkeypatch.setattr(threading.Thread, "start", slowly)
    drop_one_and_wait()


def test_a_ctrl_c_that_comes_again_does_not_come_after_the_command_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sends it is about to when the command ends, and goes on once it has."""
    about_to, ended = threading.Event(), threading.Event()
    struck: list[int] = []
    senders: list[threading.Thread] = []

    def getsignal(number: int) -> object:
        if (sender := threading.current_thread()) is not threading.main_thread():
            senders.append(sender)
            about_to.set()
            ended.wait()
        return before(number)

    before = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", getsignal)
    monkeypatch.setattr(signal, "pthread_kill", lambda _, number: struck.append(number))
    with orderly():
        DroppedCtrlC()
        assert about_to.wait(patience(10))
    ended.set()
    senders[0].join()
    assert not struck


ENDS_BY_ITSELF = """
import asyncio
import gc
from activations import Scenario

short = Scenario("short", clock="{clock}")

@short.domain("dom0")
async def dom0(xen):
    await asyncio.sleep(0.001)

@short.domain("guest")
async def guest(xen):
    await xen.store.read("name")
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "lines", [(0, 997), *by_turns(4, [(127 * part, 508) for part in range(4)])], ids=by_lines
)
@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_at_any_line_it_ends_a_run_in_order(
    clock: str, lines: Lines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C: what was begun ends, no loop is left half made, and one line says what happened."""
    file = tmp_path / "short.py"
    file.write_text(ENDS_BY_ITSELF.format(clock=clock))
    for after in count(*lines):
        caller = Caller(signal.SIGINT, after)
        with caller:
            status = main(["run", str(file)])
        gc.collect()
        err = capfd.readouterr().err
        if not caller.where:
            break
        said = err.removesuffix("activations: interrupted\n").strip()
        assert status == 130 or said, caller.where
        assert not said or said.startswith("short on sim: all ended well"), (caller.where, err)
    assert after > 10 * lines[1]
