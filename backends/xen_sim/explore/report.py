"""What happened, step by step, as a table with a column for each vCPU.

An engine gives `Moment`s in the order of the run; what is not beside a change of vCPU is folded,
so that the table has the length of what matters. Views other than this one take the same moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

ORDINARY, DEVIATION, SAID, WRONG, FAULT = "", "↷", "»", "✗", "⚡"
"""Marks of a moment: nothing; here another one ran first than in the ordinary course; the program
said this; here it went wrong; a fault befell it here."""

NOTIFY, DEMUX, WAKE = "notify", "demux", "wake"
"""An event's way: it is made pending, a lower half takes it, and who waits for it is woken."""

Pairs = tuple[tuple[str, str], ...]

BEFORE, AFTER = 3, 2
"""How many moments of a stretch are shown before somebody else runs, and after."""


STRETCHES = 4
"""How many stretches are shown before the one that deviates first."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of one vCPU."""

    actor: str
    what: str
    """The step, as `bts evtchn_pending of guest`."""
    mark: str = ORDINARY
    note: str = ""
    """What is to be said of it besides: a line of source, who comes first."""
    ns: int = 0
    """When, by the clock of the run."""
    events: Pairs = ()
    """What became of an event here: NOTIFY, DEMUX or WAKE, and the port that it was for, as
    `guest port 2`. A view draws arrows from one to the next."""
    changes: Pairs = ()
    """What has another state from here on, a port or a ring, and which: `("guest port 2",
    "pending")`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    actor: str
    text: str
    mark: str = ORDINARY


def with_wrong(moments: Sequence[Moment], actor: str, what: str) -> list[Moment]:
    """Behind its last step, this is what went wrong with this vCPU, or with all."""
    last = next((each for each in reversed(moments) if each.actor == actor or not actor), None)
    if last is None:
        return list(moments)
    return [*moments, replace(last, what=what, mark=WRONG, note="")]


def rows(moments: Iterable[Moment]) -> list[Row]:
    """The moments, folded. What came long before the first deviation, or the end, is left out."""
    stretches = [list(each) for _, each in groupby(moments, key=lambda moment: moment.actor)]
    deviates = (n for n, each in enumerate(stretches) if any(m.mark == DEVIATION for m in each))
    first = max(next(deviates, len(stretches) - 1) - STRETCHES, 0)
    found: list[Row] = []
    if first > 1:
        found.append(Row(stretches[0][0].actor, f"⋮ {sum(map(len, stretches[:first]))} steps"))
        stretches = stretches[first:]
    for stretch in stretches:
        found += _fold(stretch[0].actor, stretch)
    return found


def _fold(actor: str, stretch: list[Moment]) -> list[Row]:
    shown = [*range(AFTER), *range(len(stretch) - BEFORE, len(stretch))]
    shown += [index for index, moment in enumerate(stretch) if moment.mark]
    keep = sorted({index for index in shown if 0 <= index < len(stretch)})
    found, last = [], -1
    for index in keep:
        if left := index - last - 1:
            found.append(Row(actor, f"⋮ {left} more" if left > 1 else _said(stretch[last + 1])))
        found.append(Row(actor, _said(stretch[index]), stretch[index].mark))
        last = index
    return found


def _said(moment: Moment) -> str:
    return f"{moment.what}  ({moment.note})" if moment.note else moment.what


def table(
    moments: Sequence[Moment], actors: Sequence[str] = (), width: int = 36, *, whole: bool = False
) -> str:
    """Lines of text. `actors` gives the order of the columns; `width` is the most that one takes,
    and `…` stands where that was not enough; `whole` folds nothing."""
    lines = [Row(m.actor, _said(m), m.mark) for m in moments] if whole else rows(moments)
    names = list(dict.fromkeys([*actors, *(row.actor for row in lines)]))
    widths = {
        name: min(width, max([len(name), *(len(r.text) for r in lines if r.actor == name)]))
        for name in names
    }
    head = "   " + " │ ".join(name.ljust(widths[name]) for name in names)
    rule = "───" + "─┼─".join("─" * widths[name] for name in names)
    body = [
        f" {row.mark or ' '} "
        + " │ ".join(
            (_cut(row.text, widths[name]) if row.actor == name else "").ljust(widths[name])
            for name in names
        )
        for row in lines
    ]
    return "\n".join(line.rstrip() for line in (head, rule, *body))


def _cut(text: str, width: int) -> str:
    """The note, a line of source, is kept: without it the rest is of little use."""
    what, gap, note = text.rpartition("  (")
    if len(text) > width and gap and (left := width - len(gap + note)) > width // 3:
        return _cut(what, left) + gap + note
    return text if len(text) <= width else text[: width - 1] + "…"
