"""What ports and rings have done, told by the domain that has them, as lines that it prints.

The domains of a simulation live in this process, those of a real Xen on other machines; what they
print comes here from both. So figures are printed: a line with a mark, and JSON behind it.

On the virtual clock no time passes while there is work, so nothing can be told every so often by
that clock. Whatever works calls `Meter.tick`, which now and then, by the real time, tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter

from activations.domain import Domain

MARK = "figures: "
STORE = "xenstore"
"""The use of the port that a simulated domain reaches xenstore by."""


@dataclass(frozen=True, slots=True)
class PortFigures:
    """A port: its number, what it is for, what its other end is, and what `PortStatistics` says."""

    number: int
    use: str
    remote: str
    fired: int
    woken: int
    coalesced: int


@dataclass(frozen=True, slots=True)
class RingFigures:
    """A device's rings, or a vchan's, seen from one end."""

    use: str
    requests: int
    """Or frames, or pieces: what was done through the rings so far."""
    in_flight: int
    bytes: int
    share: float
    """Of all that is to be done here: 0 to 1."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How a domain stands, at one moment."""

    domid: int
    ports: tuple[PortFigures, ...]
    rings: tuple[RingFigures, ...]

    def as_line(self) -> str:
        return MARK + json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of_line(cls, text: str) -> Sample | None:
        """The sample that a line carries; None for any other line."""
        if not text.startswith(MARK):
            return None
        said = json.loads(text.removeprefix(MARK))
        return cls(
            said["domid"],
            tuple(PortFigures(**port) for port in said["ports"]),
            tuple(RingFigures(**ring) for ring in said["rings"]),
        )


class Ring:
    """Counts what goes through a ring; `total` bytes, or requests, are all that will."""

    def __init__(self, use: str, total: int) -> None:
        self.use = use
        self.requests: int = 0
        self.in_flight: int = 0
        self.bytes: int = 0
        self._total = total
        self._done = 0

    def count(self, bytes: int, *, done: int) -> None:
        """One more request, of so many bytes; so much of the total is done by it."""
        self.requests += 1
        self.bytes += bytes
        self._done += done

    def figures(self) -> RingFigures:
        share = self._done / self._total if self._total else 1.0
        return RingFigures(self.use, self.requests, self.in_flight, self.bytes, round(share, 4))


class Meter:
    """Tells a domain's figures, at most once in `every` seconds of real time."""

    def __init__(self, xen: Domain, every: float) -> None:
        self._xen = xen
        self._every = every
        self._next = 0.0
        self._uses: dict[int, str] = {}
        self._rings: list[Callable[[], RingFigures]] = []
        with self.naming(STORE):
            _ = xen.store

    @contextmanager
    def naming(self, use: str) -> Iterator[None]:
        """The ports that are bound inside the block are for this."""
        ports = self._xen.events.ports
        before = set(ports)
        yield
        self._uses |= dict.fromkeys(ports.keys() - before, use)

    def ring(self, use: str, total: int) -> Ring:
        """A ring to be counted from now on."""
        ring = Ring(use, total)
        self._rings.append(ring.figures)
        self.tell()  # so that rates are seen from its beginning
        return ring

    def tick(self) -> None:
        """Something has happened."""
        if perf_counter() >= self._next:
            self.tell()

    def tell(self) -> None:
        """Print how the domain stands now."""
        self._next = perf_counter() + self._every
        print(self._sample().as_line(), flush=True)

    def _sample(self) -> Sample:
        ports = []
        for number, use in self._uses.items():
            if port := self._xen.events.ports.get(number):
                seen = port.statistics()
                ports.append(
                    PortFigures(number, use, port.remote, seen.fired, seen.woken, seen.coalesced)
                )
        return Sample(self._xen.domid, tuple(ports), tuple(figures() for figures in self._rings))
