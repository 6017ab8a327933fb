"""Arrows: which notify a demux is due to, and which demux a wake.

A port keeps one event: what is sent to one that is pending already has no arrow, since nothing
comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xen_sim.explore.report import DEMUX, NOTIFY, WAKE, Moment


class Arrow(NamedTuple):
    """From one moment to another, by their numbers."""

    origin: int
    end: int
    port: str
    kind: str
    """What it ends in: DEMUX or WAKE."""


def arrows(moments: Sequence[Moment]) -> list[Arrow]:
    """In the order of their ends."""
    return _drawn(moments)[0]


def lost(moments: Sequence[Moment]) -> list[tuple[int, str]]:
    """Moments whose notify no demux takes by the end of the run, with the port."""
    return [(number, port) for port, number in _drawn(moments)[1].items()]


def _drawn(moments: Sequence[Moment]) -> tuple[list[Arrow], dict[str, int]]:
    found: list[Arrow] = []
    sent: dict[str, int] = {}
    """By port: the notify that no demux has taken yet."""
    taken: dict[str, int] = {}
    """By port: the demux that has woken no task yet."""
    for number, moment in enumerate(moments):
        for kind, port in moment.events:
            if kind == NOTIFY:
                sent.setdefault(port, number)
            elif kind == DEMUX:
                taken[port] = number
                if (origin := sent.pop(port, None)) is not None:
                    found.append(Arrow(origin, number, port, kind))
            elif kind == WAKE and (origin := taken.pop(port, None)) is not None:
                found.append(Arrow(origin, number, port, kind))
    return found, sent
