"""A grant table that goes by a journal: what Xen answers and copies. Pages are read by way of
`memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from activations.lower import Foreign, GrantedPages, GrantTable, Segment
from activations.recording.form import octets, text
from activations.recording.journal import Noting, Reading
from activations.recording.memory import view


class JournalTable:
    """A grant table that goes by a journal."""

    def __init__(self, journal: Noting | Reading, below: GrantTable | None) -> None:
        self._journal = journal
        self._below: Any = below
        self._made = 0

    def share(self, domid: int, pages: int, writable: bool) -> NotedPages:
        made: list[GrantedPages] = []

        def share() -> list[int]:
            made.append(self._below.share(domid, pages, writable))
            return list(made[0].refs)

        refs = self._journal.ask("share", [domid, pages, writable], share) or [0] * pages
        return self._pages(made, domid, refs, True)

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> NotedPages:
        made: list[GrantedPages] = []

        def map_() -> None:
            made.append(self._below.map(domid, refs, writable))

        self._journal.ask("map", [domid, list(refs), writable], map_)
        return self._pages(made, domid, refs, writable)

    def copy(self, segments: Sequence[Segment]) -> Sequence[int]:
        own = [each for each in segments if not isinstance(each.dest, Foreign)]
        asked = [_plain(each) for each in segments]

        def copy() -> list[Any]:
            statuses = self._below.copy(segments)
            copied = [text(bytes(_bytes(each)[: each.length])) for each in own]
            return [list(map(int, statuses)), copied]

        given = self._journal.ask("copy", [asked], copy)
        if given is None:
            return [0] * len(segments)
        if self._below is None:
            for each, data in zip(own, given[1], strict=True):
                _bytes(each)[: each.length] = octets(data)
        statuses: Sequence[int] = given[0]
        return statuses

    def _pages(
        self, made: list[GrantedPages], domid: int, refs: Sequence[int], writable: bool
    ) -> NotedPages:
        self._made += 1
        below = made[0] if made else None
        return NotedPages(self._journal, f"pages {self._made}", below, domid, tuple(refs), writable)


def _plain(segment: Segment) -> list[Any]:
    ends = [list(e) if isinstance(e, Foreign) else "own" for e in (segment.source, segment.dest)]
    return [*ends, segment.length]


def _bytes(segment: Segment) -> memoryview:
    assert not isinstance(segment.dest, Foreign)
    return memoryview(segment.dest).cast("B")


class NotedPages:
    """Pages shared or mapped, that go by a journal."""

    def __init__(
        self,
        journal: Noting | Reading,
        name: str,
        below: GrantedPages | None,
        domid: int,
        refs: tuple[int, ...],
        writable: bool,
    ) -> None:
        self._journal = journal
        self._name = name
        self._below = below
        self.domid = domid
        self.refs = refs
        self._view = view(journal, name, below, len(refs), writable)

    @property
    def memory(self) -> Any:
        return self._view

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        below: Any = self._below
        self._journal.ask(
            "notify_on_close",
            [self._name, clear_byte, port],
            lambda: below.notify_on_close(clear_byte=clear_byte, port=port),
        )

    def close(self) -> None:
        below: Any = self._below
        self._journal.ask("close", [self._name], lambda: below.close())
