"""The lower half that goes by a journal: the same in a recording and in its replay.

In a recording `below` is the real one, which is asked, and whose answers are noted. In a replay it
is None.

What the upper half learns: what fired and what the clock says; what hypercalls answer; what
xenstored sends (`connection`); pages, and what Xen copies (`table`).
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

from activations.lower import Adopt, Clock, GrantTable, LowerHalf, Ready, StoreConnection
from activations.recording.connection import PSEUDO, Connection
from activations.recording.form import FULL
from activations.recording.journal import Journal, Noting, Reading, written_error
from activations.recording.loop import Descriptors
from activations.recording.table import JournalTable


class JournalHalf:
    """A `LowerHalf` that goes by a journal."""

    clock: Clock = "wall"

    def __init__(self, journal: Noting | Reading, below: LowerHalf | None, name: str) -> None:
        self._journal: Journal = journal
        asked: Any = below
        self._below = asked
        self.name = name
        self.domid: int = journal.ask("domid", [], lambda: self._below.domid)
        self.descriptors: selectors.BaseSelector = Descriptors(getattr(below, "descriptors", None))
        self.grant_table: GrantTable = JournalTable(journal, getattr(below, "grant_table", None))
        self.resumed: Callable[[], object] = lambda: None
        self.last_turns = 0
        """How many turns tasks have to end, once a replay goes no further."""
        self._connections: list[Connection] = []
        self.time_ns: Callable[[], int]
        self.block: Callable[[int | None], Ready | None]
        self.poll: Callable[[], Ready | None]
        self.demux: Callable[[], Sequence[int]]
        self.unmask: Callable[[Sequence[int]], None]
        self.notify: Callable[[int], None]
        if isinstance(journal, Reading):
            self._read_back(journal)
        else:
            self._below.resumed = lambda: self._again(self._below.domid)
            self._note_down(journal, self._below)

    @contextmanager
    def opening(self) -> Any:
        """Inside the block descriptors may be registered."""
        self.descriptors.opening = True  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self.descriptors.opening = False  # type: ignore[attr-defined]

    # The idle step

    def _read_back(self, reading: Reading) -> None:
        """In a replay: all from the journal."""
        reading.told["resumed"] = self._again
        for kind in ("refused", "lost"):
            reading.told[kind] = self.tell

        def demux() -> Sequence[int]:
            reading.hear("resumed")
            event = reading.next_is("demux")
            return event[2] if event else []

        def turn(kind: str) -> Ready | None:
            if reading.over is not None and self.last_turns and kind == "poll":
                self.last_turns -= 1
                return None
            if reading.over is not None:
                raise reading.over
            keys = self.descriptors.get_map()
            found = [keys.get(PSEUDO + number) for number in reading.ask(kind, [], _never) or ()]
            return [(key, selectors.EVENT_READ) for key in found if key is not None]

        self.time_ns = reading.time
        self.block = lambda deadline: turn("block")
        self.poll = lambda: turn("poll")
        self.demux = demux
        self.unmask = lambda ports: None
        self.notify = lambda port: reading.ask("notify", [port], _never)

    def _note_down(self, noting: Noting, below: LowerHalf) -> None:
        """In a recording: what is asked all the time is noted in few instructions."""
        note, clock, take, send = noting.note, below.time_ns, below.demux, below.notify
        last = 0

        def time_ns() -> int:
            nonlocal last
            now = clock()
            note(now - last)
            last = now
            return now

        def demux() -> Sequence[int]:
            taken = take()
            if len(taken) == 1:
                note(f"demux{taken[0]}")
            elif taken:
                note(["demux", [], list(taken)])
            return taken

        def block(deadline: int | None) -> Ready | None:
            ready = wait(deadline)
            if len(events) >= FULL:
                noting.flush()
            note(self._turned("block", ready) if ready else "block")
            return ready

        def poll() -> Ready | None:
            ready = look()
            if len(events) >= FULL:
                noting.flush()
            note(self._turned("poll", ready) if ready else "poll")
            return ready

        def notify(port: int) -> None:
            try:
                send(port)
            except OSError as error:
                note(["notify", [port], None, written_error(error)])
                raise
            note(f"notify{port}")

        wait, look, events = below.block, below.poll, noting.events
        self.time_ns = time_ns
        self.block = block
        self.poll = poll
        self.demux = demux
        self.unmask = below.unmask
        self.notify = notify

    def _turned(self, kind: str, ready: Ready) -> Any:
        """That it waited, or looked, and which connections are ready, by their numbers."""
        numbers = sorted(
            {each.number for each in self._connections for key, _ in ready if each.has(key)}
        )
        return [kind, [], numbers] if numbers else kind

    def mask(self, port: int) -> None:
        self._journal.ask("mask", [port], lambda: self._below.mask(port))

    # Event channels

    def alloc_unbound(self, remote_domid: int) -> int:
        return self._bind("alloc_unbound", remote_domid)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        return self._bind("bind_interdomain", remote_domid, remote_port)

    def bind_virq(self, virq: int) -> int:
        return self._bind("bind_virq", virq)

    def close_port(self, port: int) -> None:
        self._journal.ask("close_port", [port], lambda: self._below.close_port(port))

    # xenstore, and the end

    def open_store(self, adopt: Adopt) -> StoreConnection:
        number = len(self._connections)

        def opened() -> None:
            below.append(self._below.open_store(adopt))

        below: list[StoreConnection] = []
        self._journal.ask("open_store", [], opened)
        connection = Connection(self, self._journal, number, below[0] if below else None)
        self._connections.append(connection)
        return connection

    def tell(self, number: int, *what: Any) -> None:
        """Of what became of a connection, in a replay."""
        self._connections[number].told(*what)

    def close(self) -> None:
        if self._below is not None:
            self._below.close()

    def _bind(self, kind: str, *arguments: int) -> int:
        given = self._journal.ask(
            kind, list(arguments), lambda: getattr(self._below, kind)(*arguments)
        )
        return int(given or 0)

    def _again(self, domid: int) -> None:
        """The domain was suspended and resumed."""
        self._journal.heard("resumed", domid)
        self.domid = domid
        self.resumed()


def _never() -> int:
    raise AssertionError("a replay answers from the recording")


def _check(half: JournalHalf) -> LowerHalf:
    """Have the type checker hold it against the protocol."""
    return half
