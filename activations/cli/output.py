"""What a run looks like: to a person, or as JSON, one object a line.

A `Reporter` watches a run (it is an `Observer`) and says how it ended. What domains print goes to
stdout, everything about the run to stderr; a pipe gets the domains' lines and nothing else. With
`--json` all of it goes to stdout:

    {"event": "progress", "text": "booting Xen 4.17 under QEMU 7.2"}
    {"event": "line", "domain": "guest", "text": "bound port 1"}
    {"event": "result", "ok": true, "scenario": "pingpong", "backend": "sim", "seconds": 0.012,
     "results": {"dom0": 10}, "failures": {}, "facts": {"clock": "virtual", "ns": 0}}

The last object is `result`, or `{"event": "error", "error": "BackendError", "text": ...}` where
nothing could be run, or `{"event": "interrupted"}`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cached_property
from itertools import cycle
from typing import IO, TYPE_CHECKING, Any, Protocol

from activations.outcome import Observer, Outcome
from activations.scenario import Scenario

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

TIMES = ((1, "ns", 1000), (10**3, "µs", 1000), (10**6, "ms", 1000), (10**9, "s", 60))
"""Nanoseconds in a unit, its name, and how many of it make one of the next."""
BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB")
COLOURED = {"FORCE_COLOR", "TTY_COMPATIBLE"}
"""Variables in the environment by which rich takes what is no terminal for one."""
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


class Reporter(Observer, Protocol):
    """Watches a run, and says how it ended."""

    def begins(self, scenario: Scenario) -> None:
        """These are the domains whose lines will come."""

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None: ...

    def failed(self, error: Exception) -> None:
        """Nothing could be run, and this is why."""

    def interrupted(self) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was. May be called twice."""


class JsonLines:
    """For programs: one object a line, on stdout."""

    def begins(self, scenario: Scenario) -> None:
        pass

    def progress(self, text: str) -> None:
        self.say("progress", text=text)

    def line(self, domain: str, text: str) -> None:
        self.say("line", domain=domain, text=text)

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        self.say(
            "result",
            ok=not outcome.failures,
            scenario=scenario.name,
            backend=backend,
            seconds=round(seconds, 6),
            results=outcome.results,
            failures=outcome.failures,
            facts=outcome.facts,
        )

    def failed(self, error: Exception) -> None:
        self.say("error", error=type(error).__name__, text=str(error))

    def interrupted(self) -> None:
        self.say("interrupted")

    def close(self) -> None:
        pass

    def say(self, event: str, **details: Any) -> None:
        write(json.dumps({"event": event, **details}, default=repr) + "\n")


class Screen:
    """For people: colours and a spinner on a terminal, plain lines elsewhere, without rich, which
    takes as long to import as the simulator does to run a small scenario."""

    def __init__(self, *, spinner: bool = True) -> None:
        self._width = 0
        self._colours: dict[str, str] = {}
        self._spins = spinner and not _plain(sys.stderr) and self.err.is_terminal
        self._spinner: Live | None = None

    @cached_property
    def out(self) -> Console:
        """stdout, as rich has it."""
        return _console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """stderr, as rich has it."""
        return _console(sys.stderr)

    def begins(self, scenario: Scenario) -> None:
        self._width = max(map(len, scenario.halves), default=0)
        self._colours = dict(zip(scenario.halves, cycle(COLOURS), strict=False))

    def progress(self, text: str) -> None:
        self._stop_spinner()
        if not self._spins:
            self._tell(f"... {text}")
            return
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        self._spinner = Live(
            Spinner("dots", Text(text)),
            console=self.err,
            transient=True,
            redirect_stdout=self.out.is_terminal,
            redirect_stderr=True,
        )
        self._spinner.start()

    def line(self, domain: str, text: str) -> None:
        self._stop_spinner()
        if not _plain(sys.stdout) and self.out.is_terminal:
            from rich.text import Text

            colour = self._colours.get(domain, "dim")
            self.out.print(Text.assemble((f"{domain:>{self._width}} │ ", colour), text))
        else:
            write(f"{domain:>{self._width}} | {text}\n")

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        self.close()
        for domain, report in outcome.failures.items():
            self._tell((f"{domain} failed:", "bold red"))
            self._tell(report.rstrip())
        for domain, value in outcome.results.items():
            if value is not None:
                self._tell((f"{domain} returned {value!r}", "dim"))
        how = f"{len(outcome.failures)} failed" if outcome.failures else "all ended well"
        took = f"{span(outcome.facts['ns'])} of virtual time in " if _virtual(outcome) else ""
        summary = f"{scenario.name} on {backend}: {how}, {took}{span(round(seconds * 1e9))}"
        self._tell((summary, "dim"))

    def failed(self, error: Exception) -> None:
        self.close()
        self._tell(("activations: ", "bold red"), str(error))

    def interrupted(self) -> None:
        self.close()
        self._tell(("activations: interrupted", "dim"))

    def close(self) -> None:
        self._stop_spinner()

    def _tell(self, *parts: str | tuple[str, str]) -> None:
        """A line on stderr; of a pair the second is its style."""
        if _plain(sys.stderr):
            said = "".join(part if isinstance(part, str) else part[0] for part in parts)
            print(said, file=sys.stderr, flush=True)
            return
        from rich.text import Text

        self.err.print(Text.assemble(*parts))

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def _plain(stream: IO[str]) -> bool:
    """Whether colours are not to be thought of: whatever rich goes by, it has some here."""
    return not stream.isatty() and COLOURED.isdisjoint(os.environ)


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def write(text: str | bytes) -> None:
    """Write to stdout at once. `streams` says what happens where its reader has gone."""
    if isinstance(text, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
    else:
        sys.stdout.write(text)
    sys.stdout.flush()


def span(ns: int) -> str:
    """A length of time as people say it: `1 h 5 min`, `25 ms`, `0 ns`."""
    for size, unit, enough in TIMES:
        number = float(f"{ns / size:.3g}")
        if number < enough:
            return f"{number:g} {unit}"
    whole = round(ns / 1e9)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def size(number: float) -> str:
    """Bytes as people say them: `32 MiB`, `3.25 GiB`, `512 bytes`."""
    unit = 0
    while round(number, 2) >= 1024 and unit < len(BYTES) - 1:
        number /= 1024
        unit += 1
    return f"{float(f'{number:.4g}' if number >= 100 else f'{number:.3g}'):g} {BYTES[unit]}"


def _virtual(outcome: Outcome) -> bool:
    return outcome.facts.get("clock") == "virtual" and "ns" in outcome.facts
