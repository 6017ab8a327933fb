"""What is done in one domain at a time: run a command, put a file, fetch one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from activations.errors import BackendError
from xen_lab.control import Control
from xen_lab.inside.channel import CHUNK, pack, unpack


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
    output = bytearray()
    request = control.ask(
        domain,
        "command",
        argv=list(argv),
        env={**control.pace.environment, **(env or {})},
        cwd=cwd,
        stream=lambda name, data: output.extend(data),
    )
    if not control.wait(lambda: request.answer is not None, timeout):
        control.forget(request)
        control.call(domain, "end", job=request.number, timeout=timeout)
        said = output.decode(errors="backslashreplace")[-2000:]
        raise BackendError(
            f"{domain}: {' '.join(argv)[:200]} did not end {control.pace.within(timeout)}; "
            f"it printed:\n{said}"
        )
    return control.result(request)["status"], bytes(output)


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
