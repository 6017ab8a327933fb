"""The task `lower half` (kernel/june.c): an event before every instruction of a lower half."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import module
from .lab import DONE, STATES, Probe
from .programs import Guest

_SWEEP = struct.Struct("<II")
_ROUND = struct.Struct("<QII")
_LOST = 1


class Sweep(NamedTuple):
    """A lower half with some faults."""

    faults: tuple[int, ...]
    places: int
    """Instructions before which the second event came, each in a round of its own."""
    lost: tuple[int, ...]
    """Those at which it was lost, as numbers of the order in which they are executed."""
    taken: frozenset[int]
    """How many events the guest took in a round."""


def sweeps(probe: Probe, delivery: str, faults: Sequence[Sequence[int]]) -> list[Sweep]:
    """One for each combination of faults, on a real Xen."""
    asked = [sum(1 << fault for fault in each) for each in faults]
    task = module.module(module.LOWER_HALF, delivery, 1, len(asked), *asked)
    report = probe.run(Guest(1, delivery), task)
    assert report.state == STATES[DONE], f"{report.state}, {report.words}; {report.printed}"
    return list(_sweeps(report.rest))


def _sweeps(rest: bytes) -> Iterator[Sweep]:
    at = 0
    while at < len(rest):
        faults, places = _SWEEP.unpack_from(rest, at)
        at += _SWEEP.size
        rounds = [_ROUND.unpack_from(rest, at + n * _ROUND.size) for n in range(places)]
        at += places * _ROUND.size
        lost = tuple(n for n, (_, outcome, _) in enumerate(rounds) if outcome == _LOST)
        numbers = tuple(fault for fault in range(1, 5) if faults >> fault & 1)
        yield Sweep(numbers, places, lost, frozenset(taken for *_, taken in rounds))
