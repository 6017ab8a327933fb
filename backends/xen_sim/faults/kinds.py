"""The faults there are, by kind.

Some of them Xen and its world may do to anybody at any time; a program that breaks of these is
wrong, whatever it is for. The others break many a program by definition: whoever waits for a domain
that was killed waits for good. Those have to be asked for, by the name of their kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from activations.errors import BackendError


@dataclass(frozen=True, slots=True)
class Kind:
    """Faults that are switched on together."""

    always: tuple[str, ...] = ()
    """What every program has to stand."""
    by_name: tuple[str, ...] = ()
    """What only a program has to stand that says so."""


KINDS = {
    "events": Kind(("late", "with the next", "an upcall for nothing"), ("once more",)),
    "timers": Kind(
        ("late", "early"), ("twice as long", "after stolen time", "after a jump of the clock")
    ),
    "store": Kind(("conflict",)),
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
        raise BackendError(f"there are no faults {word!r}; there are: {known}")
    if name and name not in (names := _names(kind, every=True)):
        raise BackendError(f"there is no fault {name!r} of {kind}; there are: {', '.join(names)}")
    return [(kind, each) for each in _names(kind, every=True) if name in ("", each)]


def identity(enabled: Enabled) -> str:
    """The same faults in one word: part of what a token holds for."""
    return " ".join(f"{kind}:{name}" for kind, name in sorted(enabled))


def _names(kind: str, *, every: bool) -> tuple[str, ...]:
    of = KINDS[kind]
    return of.always + of.by_name if every else of.always
