"""One run of a scenario in a lab that is up."""

from __future__ import annotations

import json
import signal
import time
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from activations.outcome import Observer, Outcome
from activations.scenario import Scenario
from activations.trace import Event, Trace, save, together
from xen_lab.control import Control, Request, answered
from xen_lab.guests import Guest, Pool
from xen_lab.inside import records
from xen_lab.shipment import Bundle

ENDING = 30.0
"""Seconds a half is given to die once it is killed."""


class Lines:
    """The lines of a stream that comes in pieces."""

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")("backslashreplace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that this piece ends."""
        *lines, self._rest = (self._rest + self._decode(data)).split("\n")
        return lines

    def last(self) -> list[str]:
        """The line that was begun and not ended, if there is one."""
        line, self._rest = self._rest, ""
        return [line] if line else []


class Part:
    """One half while it runs: its request, the lines it prints and logs, the result it writes."""

    def __init__(self, name: str, label: str, observer: Observer) -> None:
        self.name = name
        self.label = label
        self.request: Request | None = None
        self.stopped = False
        """Whether it was ended because another failed, or time was up."""
        self._observer = observer
        self._printed = Lines()
        self._logged = Lines()
        self._noted = Lines()
        self.events: list[Event] = []
        """Its trace, where one is kept."""
        self.recording: bytearray = bytearray()
        self._result = bytearray()

    @property
    def ended(self) -> bool:
        return self.request is not None and self.request.answer is not None

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than by returning."""
        return self.ended and self._answer().get("status") != 0

    @property
    def spoke(self) -> bool:
        """Whether it got as far as to say how it ended."""
        return bool(self._result)

    def take(self, stream: str, data: bytes) -> None:
        """A piece of output, of the log, or of the result."""
        match stream:
            case "result":
                self._result += data
            case "log":
                self._log(self._logged.feed(data))
            case "recording":
                self.recording += data
            case "trace":
                self.events += map(json.loads, self._noted.feed(data))
            case _:
                self._show(self._printed.feed(data))

    def flush(self) -> None:
        """Show last lines that have no newline."""
        self._log(self._logged.last())
        self._show(self._printed.last())

    def _show(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._observer.line(self.name, line)

    def _log(self, lines: Iterable[str]) -> None:
        """Log here what the half logged there; what is not a record came from elsewhere, and is
        shown as it is."""
        for line in lines:
            try:
                record = records.decode(line, self.name)
            except ValueError:
                self._observer.line(self.name, line)
            else:
                records.log(record)

    def ending(self) -> dict[str, Any]:
        """How it ended: `value`, `repr` or `failure`."""
        answer = self._answer()
        if self._result and answer["is"] == "exit":
            return cast(dict[str, Any], json.loads(self._result))
        return {"failure": _said(answer)}

    def _answer(self) -> Mapping[str, Any]:
        assert self.request is not None
        assert self.request.answer is not None
        return self.request.answer


def _said(answer: Mapping[str, Any]) -> str:
    match answer["is"]:
        case "exit" if answer["status"] < 0:
            return f"killed by {signal.Signals(-answer['status']).name}"
        case "exit":
            return f"ended with exit status {answer['status']} before it could give a result"
        case "error":
            return str(answer["text"])
        case _:
            return "its guest is gone"


class Run:
    """The halves of one scenario, started together, ended together."""

    def __init__(
        self,
        control: Control,
        pool: Pool,
        scenario: Scenario,
        bundle: Bundle,
        observer: Observer,
        sent: set[tuple[str, str]],
        *,
        trace: bool = False,
        record: Path | None = None,
    ) -> None:
        self._control = control
        self._pool = pool
        self._scenario = scenario
        self._bundle = bundle
        self._observer = observer
        self._sent = sent
        self._trace = trace
        self._record_to = record
        self._parts: list[Part] = []
        self._guests: dict[str, Guest] = {}

    def to_the_end(self, timeout: float | None) -> Outcome:
        """Start all halves, wait until all have ended, or one has failed, or time is up."""
        self._cast()
        began = time.monotonic()
        outcome = Outcome()
        try:
            self._start()
            if not self._control.wait(self._over, timeout):
                assert timeout is not None
                self._give_up(outcome, timeout)
        finally:
            self._end_leftovers()
        self._collect(outcome)
        self._save_recordings(outcome)
        outcome.facts["seconds"] = round(time.monotonic() - began, 3)
        return outcome

    def _cast(self) -> None:
        """Give every half its domain."""
        halves = self._scenario.halves.values()
        wanted = {half.name: half.kind for half in halves if half.kind != "dom0"}
        self._guests = self._pool.assign(wanted, self._observer.progress)
        for half in halves:
            label = "dom0" if half.kind == "dom0" else self._guests[half.name].label
            self._parts.append(Part(half.name, label, self._observer))

    def _start(self) -> None:
        bundle = self._bundle
        for part in self._parts:
            there = (part.label, bundle.digest) in self._sent
            self._sent.add((part.label, bundle.digest))
            part.request = self._control.ask(
                part.label,
                "half",
                stream=part.take,
                name=part.name,
                target=bundle.target,
                digest=bundle.digest,
                log=records.wanted(),
                env=self._control.pace.environment,
                trace=self._trace,
                record=self._record_to and self._named(),
                files=None if there else bundle.files,
                imports=[] if there else bundle.imports,
            )

    def trace(self) -> Trace:
        """What the halves noted so far."""
        return together(part.events for part in self._parts)

    def _over(self) -> bool:
        return all(part.ended for part in self._parts) or any(part.failed for part in self._parts)

    def _give_up(self, outcome: Outcome, timeout: float) -> None:
        for part in self._parts:
            if not part.ended:
                text = f"did not end {self._control.pace.within(timeout)}"
                outcome.failures[part.name] = self._control.explain(part.label, text)

    def _end_leftovers(self) -> None:
        """Kill the halves that still run; a guest that does not answer any more is destroyed."""
        left = [part for part in self._parts if part.request is not None and not part.ended]
        for part in left:
            assert part.request is not None
            part.stopped = True
            self._control.ask(part.label, "end", job=part.request.number)
        requests = [part.request for part in left if part.request is not None]
        if self._control.wait(lambda: answered(requests), ENDING):
            return
        for part in left:
            if not part.ended and part.name in self._guests:
                self._pool.destroy(self._guests[part.name])
        for request in requests:
            self._control.forget(request)

    def _collect(self, outcome: Outcome) -> None:
        stopped = []
        for part in self._parts:
            part.flush()
            if part.name in outcome.failures:
                continue
            if part.stopped and not part.spoke:
                stopped.append(part.name)
                continue
            self._record(part, part.ending(), outcome)
        if stopped:
            outcome.facts["stopped"] = stopped

    def _named(self) -> dict[str, str]:
        """What a recording is of."""
        return {"scenario": self._scenario.name, "file": str(self._scenario.path)}

    def _save_recordings(self, outcome: Outcome) -> None:
        """Each half's in a file of its own, named for it."""
        if self._record_to is None:
            return
        files = {}
        for part in self._parts:
            if not part.recording:
                continue  # it was ended before it began
            path = self._record_to.with_suffix(f".{part.name}{self._record_to.suffix}")
            save(path, bytes(part.recording), "recording")
            files[part.name] = str(path)
        outcome.facts["recordings"] = files

    def _record(self, part: Part, ending: Mapping[str, Any], outcome: Outcome) -> None:
        if "value" in ending:
            outcome.results[part.name] = ending["value"]
        elif "repr" in ending:
            self._observer.progress(f"{part.name}: its result is not JSON; this is its repr")
            outcome.results[part.name] = ending["repr"]
        elif part.label in self._control.gone:
            outcome.failures[part.name] = self._control.explain(part.label, ending["failure"])
        else:
            outcome.failures[part.name] = ending["failure"]
