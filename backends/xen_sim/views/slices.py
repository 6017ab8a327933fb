"""A very long run, cut down to what matters: its beginning, its end, and what is beside a mark.

A view has to stay of a size that a browser takes. What is left out leaves a moment that says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from xen_sim.explore.report import Moment

LIMIT = 100_000
"""Moments that a view takes as they are."""
_BEGINNING = 0.2
"""The part of them that is kept for the beginning of the run."""
_BESIDE = 200
"""Moments kept on either side of a mark."""


def bounded(moments: Sequence[Moment], limit: int = LIMIT) -> list[Moment]:
    """These, or `limit` and a few more of them. States are kept: what changed in a stretch that is
    left out is said by the moment in its place."""
    if len(moments) <= limit:
        return list(moments)
    kept = set(range(int(limit * _BEGINNING)))
    marks = [number for number, moment in enumerate(moments) if moment.mark]
    for number in reversed(marks):
        beside = range(max(number - _BESIDE, 0), min(number + _BESIDE + 1, len(moments)))
        if len(kept) + len(beside) > limit:
            break
        kept.update(beside)
    for number in reversed(range(len(moments))):
        if len(kept) >= limit:
            break
        kept.add(number)
    return _joined(moments, sorted(kept))


def _joined(moments: Sequence[Moment], kept: Sequence[int]) -> list[Moment]:
    found: list[Moment] = []
    last = -1
    for number in kept:
        if number > last + 1:
            found.append(_left_out(moments[last + 1 : number]))
        found.append(moments[number])
        last = number
    if last + 1 < len(moments):
        found.append(_left_out(moments[last + 1 :]))
    return found


def _left_out(stretch: Sequence[Moment]) -> Moment:
    changes = dict(change for moment in stretch for change in moment.changes)
    said = f"⋮ {len(stretch):,} steps left out"
    return Moment(stretch[0].actor, said, ns=stretch[-1].ns, changes=tuple(changes.items()))
