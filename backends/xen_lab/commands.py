"""What is done in one domain at a time: run a program, put a file, fetch one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from activations.errors import BackendError
from xen_lab.control import Control
from xen_lab.inside.channel import CHUNK, pack, unpack


class Program:
    """A program in a domain, which runs from now on. `output` is what it has printed so far, on
    either stream.

    Timeouts are in seconds at the lab's pace. Who waits in vain kills it, and gets a
    `BackendError` with what it printed.
    """

    def __init__(
        self,
        control: Control,
        domain: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> None:
        self.output: bytearray = bytearray()
        self._control = control
        self._domain = domain
        self._argv = argv
        self._request = control.ask(
            domain,
            "command",
            argv=list(argv),
            env={**control.pace.environment, **(env or {})},
            cwd=cwd,
            stream=lambda name, data: self.output.extend(data),
        )

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._request.answer is not None

    def says(self, text: str, timeout: float = 60.0) -> None:
        """Wait until it has printed this. Raises `BackendError` too if it ends before."""
        wanted = text.encode()
        self._wait(lambda: self.over or wanted in self.output, f"say {text!r}", timeout)
        if wanted not in self.output:
            raise BackendError(self._in_vain(f"ended and did not say {text!r}"))

    def ended(self, timeout: float = 60.0) -> int:
        """Wait for its end: its exit status, or minus the signal that ended it."""
        self._wait(lambda: self.over, "end", timeout)
        status: int = self._control.result(self._request)["status"]
        return status

    def signal(self, number: int, timeout: float = 60.0) -> None:
        """Send it a signal, unless it has ended."""
        words = {"job": self._request.number, "signal": int(number)}
        self._control.call(self._domain, "signal", timeout=timeout, **words)

    def _wait(self, done: Callable[[], bool], what: str, timeout: float) -> None:
        if self._control.wait(done, timeout):
            return
        self._control.forget(self._request)
        self._control.call(self._domain, "end", job=self._request.number, timeout=timeout)
        raise BackendError(self._in_vain(f"did not {what} {self._control.pace.within(timeout)}"))

    def _in_vain(self, what: str) -> str:
        said = self.output.decode(errors="backslashreplace")[-2000:]
        return f"{self._domain}: {' '.join(self._argv)[:200]} {what}; it printed:\n{said}"


def run(
    control: Control,
    domain: str,
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
) -> tuple[int, bytes]:
    """Run a program: its exit status (minus the signal that ended it) and all it printed.

    Raises `BackendError`, with what it printed so far, if it takes longer than `timeout` seconds
    at the lab's pace; it is killed then.
    """
    program = Program(control, domain, argv, env=env, cwd=cwd)
    return program.ended(timeout), bytes(program.output)


def put(
    control: Control, domain: str, path: str, data: bytes, *, mode: int, timeout: float
) -> None:
    """Write a file, in folders made as needed."""
    for offset in range(0, max(1, len(data)), CHUNK):
        piece = pack(data[offset : offset + CHUNK])
        control.call(
            domain, "put", path=path, offset=offset, data=piece, mode=mode, timeout=timeout
        )


def fetch(control: Control, domain: str, path: str, *, timeout: float) -> bytes:
    """A file's bytes."""
    data = bytearray()
    while True:
        answer = control.call(domain, "get", path=path, offset=len(data), timeout=timeout)
        piece = unpack(answer["data"])
        if not piece:
            return bytes(data)
        data += piece
