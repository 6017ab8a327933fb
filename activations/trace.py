"""What happened, a line of JSON each: `{"ns": 0, "domain": "guest", "what": "send", "port": 3}`.

Two simulated runs that take the same choices write the same bytes. So nothing is written there that
differs from one process to the next: no address, no hash, no wall-clock time.

On a real Xen each domain keeps a trace of its own, by a clock of its own: nanoseconds since its
loop was made. Its first line, `start`, says in `realtime` what CLOCK_REALTIME was then, which Linux
takes from Xen as it boots; dom0's may be another second's, since it asks its RTC too. So several
can be put together. Where that shows an event taken before
it was sent, the clock of who took it is moved on, as far as it takes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from activations import registry
from activations.errors import BackendError

Event = dict[str, Any]
FARTHEST = 30 * 10**9
"""Nanoseconds by which a domain's clock may be seen to be behind. More cannot come of a clock:
Linux reports a port for nothing where it lost count."""

VIEWS = (".html", ".htm", ".pftrace", ".perfetto-trace")
"""Files of these names are views. The simulator draws them, wherever the trace is from."""


class Trace:
    """A trace in memory, for a file at the end (`writer`). `events` is everything noted so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, ns: int, domain: str, what: str, **details: Any) -> None:
        """Add an event; `ns` is the clock's nanoseconds."""
        self.events.append({"ns": ns, "domain": domain, "what": what, **details})

    def lines(self) -> str:
        """All of it as text, one JSON object a line."""
        return "".join(map(line, self.events))


class Notes(Protocol):
    """Where events are noted: a `Trace`, or another that keeps them elsewhere."""

    def note(self, ns: int, domain: str, what: str, **details: Any) -> None:
        """Add an event; `ns` is the clock's nanoseconds."""


def line(event: Mapping[str, Any]) -> str:
    """An event as a line of JSON."""
    return json.dumps(event, separators=(",", ":")) + "\n"


def writer(path: Path, title: str) -> Callable[[Trace], None]:
    """What writes a trace to this file: as the view it is named for, else a line of JSON each.

    Raises `BackendError` where this process has no views. What it gives raises that too, where the
    file cannot be written.
    """
    if path.suffix.lower() not in VIEWS:
        return lambda trace: save(path, trace.lines().encode(), "trace")
    views = registry.find("sim").views
    return lambda trace: views.write(path, trace, title)


def save(path: Path, data: bytes, what: str) -> None:
    """Write a file. Raises `BackendError` where it cannot be."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BackendError(f"the {what} is lost: {path}: {error.strerror}") from error


def together(traces: Iterable[Sequence[Event]]) -> Trace:
    """The traces of several domains of one real Xen as one, by one clock."""
    kept = [events for events in traces if events]
    began = [events[0].get("realtime", 0) for events in kept]
    clocks = [each - min(began) for each in began]
    pairs = list(_pairs(kept))
    for _ in kept:  # who is moved on may be late for another
        for (sender, sent), (taker, taken) in pairs:
            late = sent + clocks[sender] - taken - clocks[taker]
            if 0 <= late <= FARTHEST:
                clocks[taker] += late + 1
    times = [
        [event["ns"] + clock for event in events]
        for events, clock in zip(kept, clocks, strict=True)
    ]
    _let_drift(times, kept, pairs)
    whole = Trace()
    for events, moved in zip(kept, times, strict=True):
        whole.events += [{**event, "ns": ns} for event, ns in zip(events, moved, strict=True)]
    whole.events.sort(key=lambda event: event["ns"])
    return whole


def _let_drift(
    times: Sequence[list[int]],
    traces: Sequence[Sequence[Event]],
    pairs: Sequence[tuple[Moment, Moment]],
) -> None:
    """Two clocks that do not run alike are not a fixed time apart: the one that is late by now is
    moved on from there."""
    at = [{event["ns"]: index for index, event in enumerate(events)} for events in traces]
    for _ in range(len(pairs)):
        moved = False
        for (sender, sent), (taker, taken) in pairs:
            index = at[taker][taken]
            late = times[sender][at[sender][sent]] - times[taker][index]
            if 0 <= late <= FARTHEST:
                moved = True
                for later in range(index, len(times[taker])):
                    times[taker][later] += late + 1
        if not moved:
            return


Moment = tuple[int, int]
"""The number of a trace, and a time in it."""


def _pairs(traces: Sequence[Sequence[Event]]) -> Iterator[tuple[Moment, Moment]]:
    """What was before what: a port was allocated before it was bound, and as many events were sent
    as were taken. Who binds a port is sent one by Xen."""
    times: dict[tuple[str, int, str], list[Moment]] = defaultdict(list)
    """By domain, port and what was done."""
    names: dict[int, str] = {}
    bound: list[tuple[str, Event]] = []
    for number, events in enumerate(traces):
        for event in events:
            domain, what = event["domain"], event["what"]
            if what == "start":
                names[event["domid"]] = domain
            elif what == "bind_interdomain":
                bound.append((domain, event))
            if "port" in event:
                times[domain, event["port"], what].append((number, event["ns"]))
    for domain, event in bound:
        port, peer, of_peer = event["port"], names.get(event["remote"], ""), event["remote_port"]
        binds, allocated = (
            times[domain, port, "bind_interdomain"],
            times[peer, of_peer, "alloc_unbound"],
        )
        if len(binds) != 1 or len(allocated) != 1:
            continue  # the number was used again, and the trace does not say which use it is
        yield allocated[0], binds[0]
        yield from zip(times[domain, port, "send"], times[peer, of_peer, "demux"], strict=False)
        yield from zip(times[peer, of_peer, "send"], times[domain, port, "demux"][1:], strict=False)
