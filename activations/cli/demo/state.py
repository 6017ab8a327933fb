"""What is known of the machine room while it runs: the last figures, and how fast they grow.

Rates are per second of real time, by the clock of the process that watches. On the simulator's
virtual clock hardly any time passes, and a rate by that clock would say nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import NamedTuple

from activations.demo import PortFigures, RingFigures, Sample

WINDOW = 1.0
"""Seconds over which a rate is taken."""
BOUND = re.compile(r"domain (\d+), port (\d+)")
"""What a port that was bound to another one says of its other end: see `Events`."""

Place = tuple[int, int]
"""A domain's number, and one of its ports'."""


class Rate:
    """How fast a number grows, per second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._first = self._grown = (0.0, 0.0)

    def see(self, now: float, value: float) -> None:
        if not self._seen:
            self._first = self._grown = (now, value)
        if value > self._grown[1]:
            self._grown = (now, value)
        self._seen.append((now, value))
        while self._seen[0][0] < now - WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def lately(self) -> float:
        return _slope(self._seen[0], self._seen[-1]) if self._seen else 0.0

    @property
    def overall(self) -> float:
        """While it grew."""
        return _slope(self._first, self._grown)


class RingRow(NamedTuple):
    """A ring, and how fast bytes go through it."""

    domain: str
    figures: RingFigures
    bytes: Rate


class End(NamedTuple):
    """One end of an event channel."""

    domain: str
    port: PortFigures


class Channel(NamedTuple):
    """An event channel with both ends, and how fast they fire."""

    one: End
    other: End
    fired: tuple[Rate, Rate]


class Room:
    """Takes what the domains tell; knows what there is to show. `domains` in the order to show."""

    def __init__(self, domains: Iterable[str]) -> None:
        self._order = {name: number for number, name in enumerate(domains)}
        self._rings: dict[str, tuple[RingFigures, ...]] = {}
        self._ends: dict[Place, End] = {}
        """Those of ports that were closed stay as they were last."""
        self._bytes: defaultdict[str, Rate] = defaultdict(Rate)
        self._fired: defaultdict[Place, Rate] = defaultdict(Rate)

    def told(self, domain: str, sample: Sample, now: float) -> None:
        """A domain has told its figures. `now` is in seconds of any real clock."""
        self._rings[domain] = sample.rings
        for ring in sample.rings:
            self._bytes[ring.use].see(now, ring.bytes)
        for port in sample.ports:
            self._ends[sample.domid, port.number] = End(domain, port)
            self._fired[sample.domid, port.number].see(now, port.fired)

    def rings(self) -> list[RingRow]:
        return [
            RingRow(domain, ring, self._bytes[ring.use])
            for domain in self._order
            for ring in self._rings.get(domain, ())
        ]

    def channels(self) -> list[Channel]:
        """Those of which both ends were told: xenstored, for one, tells nothing."""
        found = []
        for place, end in self._ends.items():
            bound = BOUND.fullmatch(end.port.remote)
            number = (int(bound[1]), int(bound[2])) if bound else (-1, -1)
            if other := self._ends.get(number):
                one, other = sorted((end, other), key=self._rank)
                rates = (self._fired[place], self._fired[number])
                found.append(Channel(one, other, rates))
        return sorted(found, key=lambda channel: self._rank(channel.one))

    def _rank(self, end: End) -> tuple[int, int]:
        return self._order[end.domain], end.port.number


def _slope(begin: tuple[float, float], end: tuple[float, float]) -> float:
    seconds = end[0] - begin[0]
    return (end[1] - begin[1]) / seconds if seconds > 0 else 0.0
