"""The events of a run, in order: noted as it goes, or read back and compared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from activations.errors import BackendError, SimulationOver, XenError
from activations.recording.form import Writer, whole

HOME = str(Path(__file__).parent.parent)

ERRORS: Mapping[str, type[Exception]] = {
    each.__name__: each for each in (OSError, XenError, BackendError, BufferError, ValueError)
}
"""What a lower half raises."""


class Differs(SimulationOver):
    """The program does not do what it did when it was recorded, or the recording is over."""


class Journal(Protocol):
    """What the seam is told by. Arguments and answers are what JSON can say."""

    def ask(self, kind: str, arguments: list[Any], answer: Callable[[], Any]) -> Any:
        """The answer to this: asked for now, or noted then. Raises what was raised."""

    def heard(self, kind: str, *what: Any) -> None:
        """The domain is told something that it did not ask for."""


class Noting:
    """Notes what happens. `write` takes the file's bytes."""

    def __init__(self, write: Callable[[bytes], object], header: dict[str, Any]) -> None:
        self._writer = Writer(write, header)
        self.events: list[Any] = []
        """What is not written yet."""
        self.note: Callable[[Any], None] = self.events.append
        """Adds an event as it is written."""

    def ask(self, kind: str, arguments: list[Any], answer: Callable[[], Any]) -> Any:
        try:
            given = answer()
        except (OSError, BackendError, BufferError) as error:
            self.note([kind, arguments, None, _written(error)])
            raise
        self.note([kind, arguments, given])
        return given

    def heard(self, kind: str, *what: Any) -> None:
        self.note([kind, list(what), None])

    def end(self, how: Any) -> None:
        """The run is over."""
        self.note(["end", how])
        self.flush()

    def flush(self) -> None:
        """Write what was noted. No program runs meanwhile."""
        self._writer.events(self.events)
        self.events.clear()


class Reading:
    """Reads back what happened, and compares."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self._at = 0
        self._now = 0
        self.over: Differs | None = None
        """Why it goes no further. Whatever is asked from then on raises it."""
        self.quiet = False
        """Whether that is over too, and what is asked in cleaning up is not answered."""
        self.told: dict[str, Callable[..., None]] = {}
        """What to call for news that comes unasked, while something else is asked, by kind."""

    @property
    def end(self) -> Any:
        """How the run that was recorded ended."""
        return self._events[-1][1]

    @property
    def done(self) -> bool:
        """Whether all of it was taken in."""
        return self._at == len(self._events) - 1

    def ask(self, kind: str, arguments: list[Any], answer: Callable[[], Any]) -> Any:
        if self.over is not None:
            if self.quiet:
                return None
            raise self.over
        self.hear(*self.told)
        event = self._next()
        if event[0] != kind or event[1] != arguments:
            self.stop(f"the program {_said(kind, arguments)}{_place()}")
        self._at += 1
        if len(event) > 3:
            raise _read(*event[3])
        return event[2]

    def time(self) -> int:
        """What the lower half's clock said."""
        if self.over is None:
            event = self._events[self._at]
            if type(event) is not int:
                self.stop(f"the program {_said('time', [])}{_place()}")
            self._at += 1
            self._now += event
        return self._now

    def read(self, *where: Any) -> Any:
        """What was read there; None where it was what had been there."""
        if self.over is not None and self.quiet:
            return None
        event = self._next()
        if event[0] == "read" and not event[1]:
            self._at += 1
            return None
        return self.ask("read", list(where), _nobody)

    def heard(self, kind: str, *what: Any) -> None:
        """Here it was noted."""

    def hear(self, *kinds: str) -> None:
        """Tell of what comes next here, as long as it is one of these."""
        while (event := self.next_is(*kinds)) is not None:
            self.told[event[0]](*event[1])

    def next_is(self, *kinds: str) -> list[Any] | None:
        """Take the next event, if it is one of these, and give it."""
        event = self._next()
        if self.over is not None or event[0] not in kinds:
            return None
        self._at += 1
        return list(event)

    def stop(self, what: str) -> None:
        """Here it differs. Raises `Differs`."""
        event = self._next()
        if event[0] == "end":
            then = "the run that was recorded is over"
        else:
            then = f"when it was recorded, it {_said(event[0], event[1])}"
        self.over = Differs(f"event {self._at} of {len(self._events) - 1}: {what}; {then}")
        raise self.over

    def _next(self) -> list[Any]:
        return whole(self._events[self._at])


SAID = {
    "poll": "looks whether anything happened",
    "block": "waits until something happens",
    "time": "looks at its clock",
    "demux": "takes ports that fired",
    "resumed": "is resumed after a suspend",
    "received": "hears from xenstored",
}


def _said(kind: str, arguments: list[Any]) -> str:
    """`asks for notify 3`."""
    if kind in SAID:
        return SAID[kind]
    words = [each if len(each) < 80 else f"{each[:77]}..." for each in map(repr, arguments)]
    return f"asks for {kind} {', '.join(words)}".rstrip()


def _place() -> str:
    """Where the program stands: outside of what carries it, and inside of a turn of its loop, which
    has no frame where it is the accelerator's."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in ("_run_once", "run_forever"):
        file = frame.f_code.co_filename
        if not file.startswith((HOME, sys.base_prefix + "/lib", "<")):
            return f" at {file}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _nobody() -> None:
    """A replay asks nothing below."""


def _written(error: Exception) -> list[Any]:
    if isinstance(error, XenError):
        return ["XenError", [error.errno, error.operation, str(error), error.hint]]
    if isinstance(error, OSError):
        return ["OSError", [error.errno, error.strerror]]
    kind = next(name for name, each in ERRORS.items() if isinstance(error, each))
    return [kind, [str(error)]]


def _read(kind: str, arguments: list[Any]) -> Exception:
    if kind == "XenError":
        code, operation, said, hint = arguments
        error = XenError(code, operation)
        error.strerror, error.hint, error.args = said, hint, (code, said)
        return error
    return ERRORS[kind](*arguments)


written_error = _written
read_error = _read
