"""The faults there are, by kind.

Some of them Xen and its world may do to anybody at any time; a program that breaks of these is
wrong, whatever it is for. The others break many a program by definition: one that waits for a
domain that was killed waits for good. Those have to be asked for, by the name of their kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from activations.errors import BackendError


@dataclass(frozen=True, slots=True)
class Kind:
    """Faults that are switched on together."""

    always: Mapping[str, str] = field(default_factory=dict)
    """What every program has to stand: names, and what happens."""
    by_name: Mapping[str, str] = field(default_factory=dict)
    """What only a program has to stand that says so."""
    rate: tuple[float, float] = (0.3, 3.0)
    """One that a run has happens once in 10 to the power of something between these, of the times
    that it is asked for."""


KINDS = {
    "events": Kind(
        {
            "late": "an event comes 1 ms late",
            "with the next": "an event comes with the next one, or 10 ms late",
            "an upcall for nothing": "1 ms behind an event, an upcall that finds none",
        },
        {"once more": "1 ms behind an event, another one that stands for nothing"},
    ),
    "timers": Kind(
        {
            "late": "a timer fires 1 ms late",
            "early": "a timer fires when half of its time is over",
        },
        {
            "twice as long": "a timer fires when twice its time is over",
            "after stolen time": "100 ms pass as a timer is set",
            "after a jump of the clock": "an hour passes as a timer is set",
        },
    ),
    "store": Kind(
        {"conflict": "the end of a transaction is refused with EAGAIN"},
        {
            "quota": "ENOSPC for a guest's write, mkdir or transaction, E2BIG for its watch",
            "connection lost": "xenstored listens to a guest's ring no more; watches are gone",
        },
    ),
    "grants": Kind(
        by_name={
            "exhausted": "there is no entry for pages to be shared: ENOSPC",
            "refused": "Xen does not map (EINVAL), or copy (EIO): GNTST_general_error",
        }
    ),
    "disks": Kind(
        by_name={
            "slow": "a served disk takes 10 ms longer",
            "failing": "an operation of a served disk fails with EIO",
            "power cut": "a served disk loses what was not flushed; the operation fails",
            "torn by a power cut": "it loses every other sector of that",
        }
    ),
    "packets": Kind(
        by_name={
            "lost": "a frame between a back end and its wire is lost",
            "doubled": "a frame comes twice",
            "overtaken": "a frame comes behind the next one",
        }
    ),
    "domains": Kind(
        by_name={
            "paused": "a vCPU is not run for 20 ms",
            "killed": "a domain is destroyed",
            "restarted": "a domain is destroyed, and booted again with another number",
            "migrated": "a guest is suspended, and resumed with its ports and grants gone",
        },
        rate=(2.0, 4.5),
    ),
}

ALL, NONE, SAFE = "all", "none", "safe"

Enabled = frozenset[tuple[str, str]]
"""Faults that may happen, as kind and name."""

NOTHING: Enabled = frozenset()


def parse(text: str) -> Enabled:
    """The faults of `events,timers`, of `events:late` alone, of `all`, of `none`, or of `safe`,
    which are those that every program has to stand. Raises `BackendError` with what there is."""
    return frozenset(fault for word in text.split(",") for fault in _faults(word.strip()))


def _faults(word: str) -> list[tuple[str, str]]:
    kind, _, name = word.partition(":")
    if word in (ALL, SAFE):
        return [(each, name) for each in KINDS for name in _names(each, every=word == ALL)]
    if word == NONE:
        return []
    if kind not in KINDS:
        known = ", ".join((*KINDS, SAFE, ALL, NONE))
        raise BackendError(f"there is no kind of faults {word!r}; there are: {known}")
    if name and name not in (names := _names(kind, every=True)):
        raise BackendError(f"there is no fault {name!r} of {kind}; there are: {', '.join(names)}")
    return [(kind, each) for each in _names(kind, every=True) if name in ("", each)]


def identity(enabled: Enabled) -> str:
    """The same faults in one word: part of what a token holds for."""
    return " ".join(f"{kind}:{name}" for kind, name in sorted(enabled))


def _names(kind: str, *, every: bool) -> tuple[str, ...]:
    of = KINDS[kind]
    return (*of.always, *of.by_name) if every else tuple(of.always)


def listed() -> list[tuple[str, str, bool, str]]:
    """Every fault there is: kind, name, whether every program has to stand it, what happens."""
    return [
        (kind, name, of is each.always, what)
        for kind, each in KINDS.items()
        for of in (each.always, each.by_name)
        for name, what in of.items()
    ]
