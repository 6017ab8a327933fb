"""A job: a process started in this domain, and the pipes that carry what it says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from functools import partial

READ = 64 << 10

Program = Callable[[], object]
"""What a process does until it ends."""


class Become(BaseException):
    """Raised in a forked child: it leaves the agent, and is this program from then on."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program


class Job:
    """A child process, a session of its own, with the streams `out` and, for a half, `result`,
    `log`, `trace` and `recording`.

    `streams` maps descriptors to names; `pidfd` becomes readable when the process has ended.
    """

    def __init__(self, pid: int, streams: dict[int, str], inlet: int | None = None) -> None:
        self.pid = pid
        self.pidfd: int = os.pidfd_open(pid)
        self.streams = streams
        self._inlet = inlet
        for descriptor in streams:
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> bytes | None:
        """What the stream has now; empty at its end, None for nothing yet."""
        try:
            return os.read(descriptor, READ)
        except BlockingIOError:
            return None
        except OSError:  # EIO: the far side of a pty is gone
            return b""

    def write(self, data: bytes) -> None:
        """Type this at the job's terminal."""
        if self._inlet is not None:
            os.write(self._inlet, data)

    def resize(self, rows: int, columns: int) -> None:
        """The job's terminal has this size now."""
        if self._inlet is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._inlet, termios.TIOCSWINSZ, size)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kill the process and all it started in its session's first group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit status, or minus the signal that ended it. Closes the descriptors."""
        _, status = os.waitpid(self.pid, 0)
        for descriptor in (self.pidfd, *self.streams):
            os.close(descriptor)
        return os.waitstatus_to_exitcode(status)


def command(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Job:
    """Start a program."""

    def become() -> int:
        os.chdir(cwd)
        os.environ.update(env)
        os.execvp(argv[0], list(argv))

    return _start(partial(_guarded, become), OUTPUT)


def interpreter(program: Program, env: Mapping[str, str], cwd: str) -> Job:
    """Run a program of Python's in a forked child: `Become` is raised there."""

    def become() -> None:
        try:
            os.chdir(cwd)
        except OSError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(127)
        os.environ.update(env)
        raise Become(program)

    return _start(become, OUTPUT)


def function(body: Callable[[int, int, int, int], int]) -> Job:
    """Run a function in a forked child, which saves importing what is imported already.

    It gets descriptors to write its result, its log, its trace and its recording to, and gives the
    exit status.
    """
    streams = {"out": (1, 2), "result": (3,), "log": (4,), "trace": (5,), "recording": (6,)}
    return _start(partial(_guarded, partial(body, 3, 4, 5, 6)), streams)


def terminal(argv: Sequence[str], env: Mapping[str, str], rows: int, columns: int) -> Job:
    """Start a program on a terminal of its own."""
    pid, master = pty.fork()
    if pid == 0:
        _guarded(lambda: os.execvpe(argv[0], list(argv), {**os.environ, **env}))
    job = Job(pid, {master: "out"}, inlet=master)
    job.resize(rows, columns)
    return job


OUTPUT = {"out": (1, 2)}
"""Standard output and error are one stream."""


def _start(live: Callable[[], None], wanted: Mapping[str, Sequence[int]]) -> Job:
    """A child whose whole life is `live`, which does not return."""
    pipes = {name: os.pipe() for name in wanted}
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, (_, writer) in pipes.items():
            for descriptor in wanted[name]:
                os.dup2(writer, descriptor)
        os.closerange(max(max(targets) for targets in wanted.values()) + 1, 1 << 16)
        live()
    for _, writer in pipes.values():
        os.close(writer)
    return Job(pid, {reader: name for name, (reader, _) in pipes.items()})


def _guarded(body: Callable[[], int]) -> None:
    """The child's whole life: whatever happens, it never returns into the agent."""
    status = 127
    try:
        status = body()
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    except BaseException:
        import traceback  # not before: it costs 60 ms of every boot

        os.write(2, traceback.format_exc().encode())
        status = 1
    finally:
        os._exit(status)
