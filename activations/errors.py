"""What can go wrong, by name.

Every error says which operation failed, on which domain and port, and what to do about it.
Errors that Xen itself reports are `XenError`s: OSErrors that carry Xen's own errno, so that
`except OSError as error: error.errno` works on every backend alike.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


class ActivationsError(Exception):
    """The root of every error this package raises on its own account. It can be copied, and raised
    in another process than the one it comes from, as out of a `ProcessPoolExecutor`."""

    def __reduce__(self) -> tuple[Any, ...]:
        parts = super().__reduce__()
        assert isinstance(parts, tuple)
        kind, said, *state = parts
        return (_as_it_was, (kind, said), *state)


def _as_it_was(kind: type[ActivationsError], said: Sequence[Any]) -> ActivationsError:
    """An error that says this. Its own constructor would put it together once more, and takes
    other arguments."""
    error = kind.__new__(kind, *said)
    root = OSError if isinstance(error, OSError) else Exception
    root.__init__(error, *said)
    return error


class XenError(ActivationsError, OSError):
    """Xen, or the device that stands for it, refused an operation.

    `errno` is Xen's own (Xen uses Linux's numbers); `operation` names what was asked, as
    `EVTCHNOP_bind_interdomain`; `hint` says what to do, where there is something to say.
    """

    def __init__(self, errno: int, operation: str, detail: str = "", hint: str = "") -> None:
        self.operation = operation
        self.hint = hint
        said = f"{operation}: {os.strerror(errno)}"
        if detail:
            said += f" ({detail})"
        if hint:
            said += f"; {hint}"
        super().__init__(errno, said)

    def __str__(self) -> str:
        return str(self.strerror)


class PortError(ActivationsError):
    """A port cannot be waited on, or can no longer be."""


class PortClosed(PortError):
    """The port was closed; tasks that waited on it are woken with this."""


class GenerationEnded(PortError):
    """The domain was suspended: every port of the old generation is gone. Bind again."""


class SimulationOver(BaseException):
    """A simulated run cannot go on. The application has not failed: like `KeyboardInterrupt` this
    is none of its errors, and no `except Exception` takes it for one."""


class BlockedForever(SimulationOver):
    """Nothing can ever happen again in this simulation; the message says who waits for what."""


class VirtualClockError(ActivationsError):
    """A real descriptor, thread or process was used on the virtual clock."""


class BackendError(ActivationsError):
    """A backend is unknown, cannot work on this machine, or speaks another protocol version."""


class ScenarioError(ActivationsError):
    """A scenario file is missing, broken, or holds no scenario that fits."""


class DomainFailed(ActivationsError):
    """A scenario's half raised. `failures` maps the domain's name to its traceback's text."""

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = failures
        super().__init__("\n".join(f"[{name}] {text.rstrip()}" for name, text in failures.items()))


class LeakWarning(ResourceWarning):
    """A domain ended with ports, grants or tasks that were not closed."""
