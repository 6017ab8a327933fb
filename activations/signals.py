"""Signals, for all loops of this process.

asyncio takes signals as if one loop were all there is (asyncio/unix_events.py): the last one that
adds a handler gets Python's only wake-up descriptor, keeps what it hears to itself, and when it
goes no loop has the descriptor. The domains of a simulated machine are several loops in one thread.
So here Python's own handler of a signal tells every loop that listens to it. What is left for the
wake-up descriptor is to end a sleep, and any listener's does: the domains of a machine sleep
together. It passes to another listener when its loop stops listening, and in the end to who had it
before.

Python lets the main thread alone do any of this, and runs handlers there: so nothing is locked.
"""

from __future__ import annotations

import signal
import threading
from asyncio import Handle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from socket import socket
from types import FrameType
from typing import Protocol


class Listener(Protocol):
    """As much of asyncio's loop as takes signals."""

    _csock: socket
    """Where a byte ends the loop's sleep."""
    _signal_handlers: dict[int, Handle]

    def _handle_signal(self, number: int, /) -> None: ...


_listeners: dict[int, list[Listener]] = {}
"""Who listens to a signal, in the order in which they began."""

_before = -1
"""The wake-up descriptor there was before anybody listened."""


@contextmanager
def unheard() -> Iterator[Callable[[], None]]:
    """Inside the block this thread hears no signal; those that come are heard when it is left, or
    what it gives is called.

    For short steps that nothing may break off. A thread or a process that began in here would hear
    none for ever.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    over = False

    def heard() -> None:
        nonlocal over
        if not over:
            over = True
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield heard
    finally:
        heard()


@contextmanager
def waking(loop: object) -> Iterator[None]:
    """Inside the block every signal ends a sleep of this loop: one too that comes when Python has
    looked for the last time, and the sleep has not begun. Only in the main thread; not on a virtual
    clock, where nothing sleeps."""
    pipe: socket | None = getattr(loop, "_csock", None)
    if pipe is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.set_wakeup_fd(pipe.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            signal.set_wakeup_fd(before)


def listen(loop: Listener, number: int, handle: Handle) -> None:
    """Have the loop run this handle at every such signal, in place of an earlier one of its own.

    Raises `RuntimeError` for a signal that cannot be caught, and outside the main thread.
    """
    global _before
    try:
        before = signal.set_wakeup_fd(loop._csock.fileno())
    except (ValueError, OSError) as error:
        raise RuntimeError(str(error)) from None
    if not _listeners:
        _before = before
    listeners = _listeners.setdefault(number, [])
    if loop not in listeners:
        listeners.append(loop)
    loop._signal_handlers[number] = handle
    try:
        signal.signal(number, _tell)
        signal.siginterrupt(number, False)
    except OSError as error:
        _leave(loop, number)
        raise _refusal(number, error) from None


def forget(loop: Listener, number: int) -> bool:
    """The loop listens to this signal no more; whether it did."""
    if number not in loop._signal_handlers:
        return False
    if _listeners[number] == [loop]:
        at_rest = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(number, at_rest)
        except OSError as error:
            raise _refusal(number, error) from None
    _leave(loop, number)
    return True


def _tell(number: int, frame: FrameType | None) -> None:
    for loop in list(_listeners.get(number, ())):
        loop._handle_signal(number)


def _leave(loop: Listener, number: int) -> None:
    del loop._signal_handlers[number]
    _listeners[number].remove(loop)
    if not _listeners[number]:
        del _listeners[number]
    if loop._signal_handlers:
        return
    heirs = [heir for listeners in _listeners.values() for heir in listeners]
    signal.set_wakeup_fd(-1)
    with suppress(ValueError, OSError):  # its former owner may have closed it
        signal.set_wakeup_fd(heirs[-1]._csock.fileno() if heirs else _before)


def _refusal(number: int, error: OSError) -> Exception:
    return RuntimeError(f"sig {number} cannot be caught") if error.errno == EINVAL else error
