"""stdout and stderr of the command: what happens when they are not read.

**The reader has gone** (EPIPE, as after `| head`; a terminal that was closed), or the device is
full. stdout is what the command is for: it ends as by Ctrl-C, with an exit status of its own, and
says nothing more. stderr is not: what would go there is lost, and that is all.

**The reader does not read for now**: the pipe is full, or the terminal stopped by Ctrl-S. A program
waits then, until it is told to end. A server does not: guests wait for it. It keeps what it has to
say until there is room, up to `KEPT` bytes; what is beyond is lost.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EIO, EPIPE
from select import PIPE_BUF, POLLOUT, poll
from types import FrameType
from typing import Any, TextIO

from activations.cli.ending import ENDING
from activations.cli.status import INTERRUPTED, NOT_TRIED, PIPE_GONE
from activations.signals import unheard

PLAIN = dict(zip("│─┼├└⋮·…↷✗✓µ█▉▊▋▌▍▎▏━╸╺⇄“”", '|-+|`:.~>x*u########=---""', strict=True))
"""What ASCII has for what tables and figures are made of."""
UNENCODABLE = "activations"
"""How a stream writes what its encoding lacks, as Python's codecs know it."""
KEPT = 1 << 20
PATIENCE = 1.0
"""Seconds that a reader who does not read is given in the end."""
LOOK_UP = 0.1
"""Seconds after which a write that waits for room looks whether the command is to end."""
STREAMS = {"stdout": 1, "stderr": 2}


class Sink(io.RawIOBase):
    """The bytes of a stream, on their way to its descriptor."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.vital: bool = name == "stdout"
        """Whether the command is to end when this is lost."""
        self.waits: bool = True
        """Whether the command waits until there is room."""
        self._name = name
        self._descriptor = descriptor
        self._kept = bytearray()
        self._lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            if not self._lost and len(self._kept) + view.nbytes <= max(KEPT, view.nbytes):
                self._kept += view
            size = view.nbytes
        self._send()
        return size

    def finish(self) -> None:
        """Have all that is kept go out, if somebody reads it."""
        self.waits, waited = False, time.monotonic() + PATIENCE
        while self._kept and time.monotonic() < waited:
            self._has_room(LOOK_UP)
            self._send()

    def silence(self) -> None:
        """Nothing more is said."""
        self._lost = True
        self._kept.clear()

    def _send(self) -> None:
        try:
            while self._kept and (self._has_room(0) or (self.waits and self._waited())):
                piece = bytes(self._kept[:PIPE_BUF])
                del self._kept[: os.write(self._descriptor, piece)]
        except BlockingIOError:  # somebody else's O_NONBLOCK, and somebody else's bytes
            pass
        except OSError as error:
            self.silence()
            self._end(error)

    def _has_room(self, seconds: float) -> bool:
        poller = poll()
        poller.register(self._descriptor, POLLOUT)
        return bool(poller.poll(seconds * 1000))

    def _waited(self) -> bool:
        """Whether there is room, after as long as it takes; not for ever once the command ends."""
        with _heeding_ctrl_c():
            while not self._has_room(LOOK_UP):
                if ENDING.begun:
                    self.waits = self._has_room(PATIENCE)
                    return self.waits
        return True

    def _end(self, error: OSError) -> None:
        """End the command: a program where it stands, a server as by `kill`."""
        if not self.vital:
            return
        unread = error.errno in (EPIPE, EIO)
        if not ENDING.begin(PIPE_GONE if unread else NOT_TRIED):
            return
        if not unread:
            print(f"activations: {self._name}: {error.strerror}", file=sys.stderr)
        for sink in _sinks():
            sink.silence()
        if self.waits:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def guarded() -> Iterator[None]:
    """Inside the block sys.stdout and sys.stderr are written to through sinks. One that is closed,
    as after a shell's `>&-`, takes what it gets; and no file that is opened gets its number."""
    _occupy()
    before = {name: getattr(sys, name) for name in STREAMS}
    for name in STREAMS:
        setattr(sys, name, _stream(name, before[name]))
    sinks = list(_sinks())
    try:
        yield
        for name in STREAMS:
            getattr(sys, name).flush()
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
        for sink in sinks:
            sink.finish()


@contextmanager
def serving(output: TextIO) -> Iterator[None]:
    """Inside the block nothing that is said makes anybody wait, and the command ends when `output`
    is lost."""
    for sink in _sinks():
        sink.waits = False
    vital = getattr(output, "buffer", None)
    if isinstance(vital, Sink):
        vital.vital = True
    yield


def _sinks() -> Iterator[Sink]:
    for name in STREAMS:
        sink = getattr(getattr(sys, name), "buffer", None)
        if isinstance(sink, Sink):
            yield sink


def _stream(name: str, beneath: Any) -> Any:
    """A stream to where this one goes. One of no descriptor is some caller's, and stays."""
    if beneath is None:
        sink = Sink(name, STREAMS[name])
        sink.silence()  # a file that something imported keeps open may have this number by now
        return io.TextIOWrapper(sink, "utf-8", UNENCODABLE, line_buffering=True)
    try:
        descriptor = beneath.fileno()
    except io.UnsupportedOperation:
        if isinstance(beneath, io.TextIOWrapper):
            beneath.reconfigure(errors=UNENCODABLE)
        return beneath
    beneath.flush()
    encoding = getattr(beneath, "encoding", None) or "utf-8"
    return io.TextIOWrapper(Sink(name, descriptor), encoding, UNENCODABLE, line_buffering=True)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(each, "?") for each in lacking), error.end


codecs.register_error(UNENCODABLE, _plainly)


def _occupy() -> None:
    """Have something behind the three first descriptors, so that no disk's file gets there."""
    with unheard():  # else a signal might leave the last one open
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)


@contextmanager
def _heeding_ctrl_c() -> Iterator[None]:
    """Inside the block Ctrl-C is noted, besides what it does."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, frame: FrameType | None) -> None:
        ENDING.begin(INTERRUPTED)
        before(number, frame)

    signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
