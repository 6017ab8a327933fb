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
import sys
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.text import Text

from activations.outcome import Observer, Outcome
from activations.scenario import Scenario

if TYPE_CHECKING:
    from rich.live import Live

TIMES = ((1, "ns", 1000), (10**3, "µs", 1000), (10**6, "ms", 1000), (10**9, "s", 60))
"""Nanoseconds in a unit, its name, and how many of it make one of the next."""
BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB")
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
    """For people: colours and a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, *, spinner: bool = True) -> None:
        self.out: Console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.err: Console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._width = 0
        self._colours: dict[str, str] = {}
        self._spins = spinner and self.err.is_terminal
        self._spinner: Live | None = None

    def begins(self, scenario: Scenario) -> None:
        self._width = max(map(len, scenario.halves), default=0)
        self._colours = dict(zip(scenario.halves, cycle(COLOURS), strict=False))

    def progress(self, text: str) -> None:
        self._stop_spinner()
        if not self._spins:
            self.err.print(Text(f"... {text}"))
            return
        from rich.live import Live
        from rich.spinner import Spinner

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
        if self.out.is_terminal:
            colour = self._colours.get(domain, "dim")
            self.out.print(Text.assemble((f"{domain:>{self._width}} │ ", colour), text))
        else:
            write(f"{domain:>{self._width}} | {text}\n")

    def ended(self, scenario: Scenario, backend: str, outcome: Outcome, seconds: float) -> None:
        self.close()
        for domain, report in outcome.failures.items():
            self.err.print(Text(f"{domain} failed:", "bold red"))
            self.err.print(Text(report.rstrip()))
        for domain, value in outcome.results.items():
            if value is not None:
                self.err.print(Text(f"{domain} returned {value!r}", "dim"))
        how = f"{len(outcome.failures)} failed" if outcome.failures else "all ended well"
        took = f"{span(outcome.facts['ns'])} of virtual time in " if _virtual(outcome) else ""
        summary = f"{scenario.name} on {backend}: {how}, {took}{span(round(seconds * 1e9))}"
        self.err.print(Text(summary, "dim"))

    def failed(self, error: Exception) -> None:
        self.close()
        self.err.print(Text.assemble(("activations: ", "bold red"), str(error)))

    def interrupted(self) -> None:
        self.close()
        self.err.print(Text("activations: interrupted", "dim"))

    def close(self) -> None:
        self._stop_spinner()

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


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
