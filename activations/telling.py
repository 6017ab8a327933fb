"""What a running program tells of itself to `activations top`: its domains' ports, on a socket.

Imported only where somebody asked for it (`watched`).

A thread tells it, so that a loop is seen on the virtual clock too, and one that is busy or stuck.
It reads counters, and changes nothing. The socket lies in a folder that belongs to this user and
that no other user may enter, and each program that connects gets one line of JSON:

    {"version": 1, "pid": 812, "program": "activations run ping.py", "ns": ..., "domains": [
        {"domid": 0, "name": "dom0", "clock": "wall", "generation": 0, "ready": 0, "asleep": 1,
         "ports": [{"port": 3, "remote": "domain 1", "fired": 10, "woken": 10, "coalesced": 0,
                    "sent": 10, "waiters": 1, "wake": [21000, 90000], "answer": [80000, 400000]}]}]}

`ns` is a clock to compute rates by. `wake` is how long it took from an event's delivery until who
waited for it ran, `answer` from a notification until the next event came back on that port: the
median and the longest of the last 256, in nanoseconds of real time; null where there was none.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from activations import logs
from activations.port import Port
from activations.signals import unheard

if TYPE_CHECKING:
    from activations.events import Events
    from activations.loop import EventLoop

VERSION = 1
KEPT = 256
"""Of how many events latencies are told."""
PATIENCE = 1.0
"""Seconds for who connects to take what it is told."""


class TimedPort(Port):
    """A port that keeps how long things take."""

    __slots__ = ("_fired_at", "_sent_at", "answers", "sent", "wakes")

    def __init__(self, events: Events, number: int, remote: str) -> None:
        super().__init__(events, number, remote)
        self.sent: int = 0
        self.wakes: deque[int] = deque(maxlen=KEPT)
        self.answers: deque[int] = deque(maxlen=KEPT)
        self._fired_at = 0
        self._sent_at: int | None = None
        """When the first event was sent that nothing came back for."""

    async def wait(self) -> int:
        slept = self._seen == self._count
        count = await super().wait()
        if slept:
            self.wakes.append(perf_counter_ns() - self._fired_at)
        return count

    __anext__ = wait

    async def after(self, event: int) -> int:
        slept = self._count <= event
        count = await super().after(event)
        if slept:
            self.wakes.append(perf_counter_ns() - self._fired_at)
        return count

    def notify(self) -> None:
        now = perf_counter_ns()
        super().notify()
        self.sent += 1
        if self._sent_at is None:
            self._sent_at = now

    def _fire(self, now: int) -> None:
        self._fired_at = fired = perf_counter_ns()
        if self._sent_at is not None:
            self.answers.append(fired - self._sent_at)
            self._sent_at = None
        super()._fire(now)

    def told(self) -> dict[str, Any]:
        statistics = self.statistics()
        return {
            "port": self.number,
            "remote": self.remote,
            "fired": statistics.fired,
            "woken": statistics.woken,
            "coalesced": statistics.coalesced,
            "sent": self.sent,
            "waiters": len(self._waiters),
            "wake": _median_and_longest(self.wakes),
            "answer": _median_and_longest(self.answers),
        }


def _median_and_longest(times: deque[int]) -> tuple[int, int] | None:
    found = list(times)  # at once: the loop's thread goes on adding
    found.sort()
    return (found[len(found) // 2], found[-1]) if found else None


class _Teller:
    """The socket of this process, and the thread behind it, while there is a loop to tell of."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loops: WeakSet[EventLoop] = WeakSet()
        self._path = own_folder() / f"{self.pid}.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._path.unlink(missing_ok=True)  # of one that had this number before, and was killed
            with short(self._path) as path:
                self._socket.bind(path)
            self._socket.listen()
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="activations top", daemon=True)
        with unheard():  # signals are for threads that run loops
            self._thread.start()

    def stop(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the thread's wait
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def left_behind(self) -> None:
        """This process was forked from the one that tells."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.settimeout(PATIENCE)
                client.sendall(json.dumps(self._told()).encode() + b"\n")

    def _told(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "pid": self.pid,
            "program": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "ns": perf_counter_ns(),
            "domains": [_domain(loop) for loop in list(self.loops)],
        }


def _domain(loop: EventLoop) -> dict[str, Any]:
    domain = loop.domain
    ports = list(domain.events.ports.values())
    return {
        "domid": domain.domid,
        "name": domain.name,
        "clock": domain.clock,
        "generation": domain.generation,
        "ready": len(loop._ready),
        "asleep": loop.asleep,
        "ports": [port.told() for port in ports if isinstance(port, TimedPort)],
    }


_teller: _Teller | None = None


def begin(loop: EventLoop) -> None:
    """Tell of this new loop until `end`. Where that cannot be, the log says why, and the program
    runs on: it is not to fail for who looks on."""
    global _teller
    try:
        if _teller is None:
            _teller = _Teller()
            _listen_for_ends()
    except OSError as error:
        logs.logger(domain=loop.domain.name).warning("not seen by activations top", why=str(error))
        return
    _teller.loops.add(loop)
    loop.domain.events.port_class = TimedPort


def end(loop: EventLoop) -> None:
    """This loop is closed. The last one closes the socket."""
    global _teller
    teller = _teller
    if teller is None or loop not in teller.loops:
        return
    teller.loops.discard(loop)
    if not teller.loops:
        _teller = None
        teller.stop()


@cache
def _listen_for_ends() -> None:
    """Once in the life of a process."""
    atexit.register(_stop)
    os.register_at_fork(after_in_child=_forked)


def _stop() -> None:
    """The process ends with loops that were not closed."""
    global _teller
    teller, _teller = _teller, None
    if teller is not None:
        teller.stop()


def _forked() -> None:
    global _teller
    teller, _teller = _teller, None
    if teller is not None:
        teller.left_behind()


# Where the sockets are


def folder() -> Path:
    """Of this user's sockets."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "activations") if runtime else Path(f"/tmp/activations-{os.geteuid()}")


def own_folder() -> Path:
    """The same, made if it is not there. Raises `PermissionError` where others may enter it, or it
    belongs to another user, who made it first, in a folder for all."""
    path = folder()
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & 0o077:
        raise PermissionError(
            f"{path} must be a folder of user {os.geteuid()}, closed to all others (mode 700): "
            "remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    return path


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of at most 107 bytes for a socket, as the kernel wants it, however long the way is."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
