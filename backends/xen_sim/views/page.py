"""A run as one HTML file, to be stepped through in a browser: no network, no other file.

The file is page.html with page.css, page.js and the run in it. What it shows is the run's moments,
written as columns of numbers into one table of strings, since a long run says the same over and
over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from xen_sim.explore.report import WAKE, Moment
from xen_sim.views.arrows import arrows, lost
from xen_sim.views.slices import LIMIT, bounded
from xen_sim.views.words import words


def page(
    moments: Sequence[Moment],
    actors: Sequence[str] = (),
    *,
    title: str = "A run",
    finding: str = "",
    facts: str = "",
    beside: Sequence[Moment] = (),
    names: tuple[str, str] = ("the failing run", "the nearest passing run"),
    limit: int = LIMIT,
) -> str:
    """The file's text.

    `actors` gives the order of the lanes. `finding` is what went wrong, and `facts` a line below
    it: a token, a verdict. `beside` is another run of the same program, whose steps are shown
    beside these from the first that differs; `names` says what the two are. Of more than `limit`
    moments a part is left out.
    """
    data = _Data(actors)
    shown = [bounded(each, limit) for each in ((moments, beside) if beside else (moments,))]
    runs = [data.run(each) for each in shown]
    template = Template(_file("page.html"))
    return template.substitute(
        title=escape(title),
        finding=escape(finding),
        facts=escape(facts),
        style=_file("page.css"),
        script=_file("page.js"),
        data=_in_script(
            {
                **data.whole(runs),
                "same": same(*shown) if len(shown) == 2 else 0,
                "names": names,
                "finding": finding,
            }
        ),
    )


def same(one: Sequence[Moment], other: Sequence[Moment]) -> int:
    """How many moments two runs have in common before the first that differs."""
    for number, (this, that) in enumerate(zip(one, other, strict=False)):
        if (this.actor, this.what, this.mark) != (that.actor, that.what, that.mark):
            return number
    return min(len(one), len(other))


class _Data:
    """What the page's script reads."""

    def __init__(self, actors: Sequence[str]) -> None:
        self._actors = dict.fromkeys(actors)
        self._strings = {"": 0}
        self._tracks: dict[str, int] = {}

    def run(self, moments: Sequence[Moment]) -> dict[str, Any]:
        """A run's columns."""
        self._actors |= dict.fromkeys(moment.actor for moment in moments)
        actors = {actor: number for number, actor in enumerate(self._actors)}
        return {
            "actor": [actors[moment.actor] for moment in moments],
            "whats": [self._string(moment.what) for moment in moments],
            "marks": [self._string(moment.mark) for moment in moments],
            "notes": [self._string(moment.note) for moment in moments],
            "ns": _steps([moment.ns for moment in moments]),
            "changes": [
                (number, self._track(row), self._string(state))
                for number, moment in enumerate(moments)
                for row, state in moment.changes
            ],
            "arrows": [
                (arrow.origin, arrow.end, self._track(arrow.port), int(arrow.kind == WAKE))
                for arrow in arrows(moments)
            ],
            "lost": [(number, self._track(port)) for number, port in lost(moments)],
        }

    def whole(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        said = {number: words(text) for text, number in self._strings.items()}
        return {
            "actors": list(self._actors),
            "tracks": list(self._tracks),
            "strings": list(self._strings),
            "words": {number: text for number, text in said.items() if text},
            "runs": runs,
        }

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _track(self, name: str) -> int:
        return self._tracks.setdefault(name, len(self._tracks))


def _steps(times: Sequence[int]) -> list[int]:
    """Each less the one before: small numbers."""
    return [now - before for before, now in zip([0, *times], times, strict=False)]


def _in_script(data: dict[str, Any]) -> str:
    """JSON in which nothing ends a script element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
