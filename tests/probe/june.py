"""The task `lower half` (kernel/june.c): an event before every instruction of a lower half."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xen_kernel import KERNELS, Scenario

from . import module
from .halves import HALVES, Half
from .lab import DONE, STATES, Probe
from .programs import Guest

_SWEEP = struct.Struct("<IIII")
_ROUND = struct.Struct("<QII")
_LOST = 1
MOST = 10
"""Lower halves that one guest does."""


class Two(NamedTuple):
    """For whom two events are."""

    ports: int
    spread: bool = False

    def scenario(self, half: Half, delivery: str) -> Scenario:
        """The same for the engine."""
        return Scenario(
            (KERNELS / f"{half.name}.c",),
            defines=(f"FAULT={half.fault}",),
            delivery=delivery,  # type: ignore[arg-type]
            ports=self.ports,
            sends=2 if self.ports == 1 else 1,
            spread=self.spread,
        )


SAME_PORT, SAME_WORD, TWO_WORDS = Two(1), Two(2), Two(2, spread=True)


class Sweep(NamedTuple):
    """A lower half with a fault, or none."""

    half: Half
    places: int
    """Instructions before which the second event came, each in a round of its own."""
    lost: tuple[int, ...]
    """Those at which it was lost, as numbers of the order in which they are executed."""
    taken: frozenset[int]
    """How many events the guest took in a round."""


def sweeps(
    probe: Probe, delivery: str, halves: Sequence[Half], two: Two = SAME_PORT
) -> list[Sweep]:
    """One for each lower half, on a real Xen."""
    swept: list[Sweep] = []
    for first in range(0, len(halves), MOST):
        numbers = [HALVES.index(half) for half in halves[first : first + MOST]]
        words = (two.ports | two.spread << 8, len(numbers), *numbers)
        report = probe.run(
            Guest(1, delivery), module.module(module.LOWER_HALF, delivery, 1, *words)
        )
        assert report.state == STATES[DONE], f"{report.state}, {report.words}; {report.printed}"
        swept += _sweeps(report.rest)
    return swept


def _sweeps(rest: bytes) -> Iterator[Sweep]:
    at = 0
    while at < len(rest):
        number, _, places, _ = _SWEEP.unpack_from(rest, at)
        at += _SWEEP.size
        rounds = [_ROUND.unpack_from(rest, at + n * _ROUND.size) for n in range(places)]
        at += places * _ROUND.size
        lost = tuple(n for n, (_, outcome, _) in enumerate(rounds) if outcome == _LOST)
        yield Sweep(HALVES[number], places, lost, frozenset(taken for *_, taken in rounds))
