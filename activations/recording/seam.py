"""The lower half that goes by a journal: the same in a recording and in its replay.

In a recording `below` is the real one, which is asked, and whose answers are noted. In a replay it
is None.

What the upper half learns: what fired and what the clock says; what hypercalls answer; what
xenstored sends, at the place among the loop's callbacks where it came; pages, read by read
(`memory`); what Xen copies. Descriptors, threads, processes and signals of the program's own are
refused, since what comes from there would not be noted.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from activations.loop import OUTSIDE, EventLoop
from activations.lower import (
    Adopt,
    Clock,
    Foreign,
    GrantedPages,
    GrantTable,
    LowerHalf,
    Ready,
    Segment,
    StoreConnection,
    StoreUser,
)
from activations.recording.form import RecordingError, octets, text
from activations.recording.journal import Journal, Noting, Reading, read_error, written_error
from activations.recording.memory import view

PSEUDO = 1 << 24
"""In a replay, the number of the first connection's descriptor: no real one is so large."""


def refuse(what: str) -> NoReturn:
    raise RecordingError(
        f"{what} cannot be recorded: of descriptors, threads, processes and signals of a program's "
        "own nothing is noted; run it without --record"
    )


class RecordedLoop(EventLoop):
    """A loop on a lower half that goes by a journal."""

    def __init__(self, lower: JournalHalf) -> None:
        with lower.opening():  # the pipe by which a loop wakes itself
            super().__init__(lower)

    async def shutdown_asyncgens(self) -> None:
        """Generators that have ended may wait for the garbage collector, here or there."""
        gc.collect()
        await super().shutdown_asyncgens()

    _run_once = asyncio.SelectorEventLoop._run_once  # type: ignore[attr-defined]
    """Its turns are asyncio's, here and there: ours, and the accelerator's, ask for the time less
    often than those that stand in recordings."""


def _refusing(name: str) -> Callable[..., Any]:
    def refused(self: RecordedLoop, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(name)

    refused.__name__ = name
    return refused


for _name in OUTSIDE:
    setattr(RecordedLoop, _name, _refusing(_name))


class Descriptors(selectors.BaseSelector):
    """What asyncio registers: the loop's own pipe, and connections to xenstored. In a replay they
    are kept, and nothing ever happens to them by itself."""

    def __init__(self, below: selectors.BaseSelector | None) -> None:
        self._below = below
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.opening = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if not self.opening:
            refuse("a descriptor")
        if self._below is not None:
            return self._below.register(fileobj, events, data)
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._below.unregister(fileobj) if self._below else self._keys.pop(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._below is not None:
            return self._below.modify(fileobj, events, data)
        self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._keys[fileobj]

    def select(self, timeout: float | None = None) -> Ready:
        return []  # the lower half says what is ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._below.get_map() if self._below else self._keys

    def close(self) -> None:
        if self._below is not None:
            self._below.close()


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

        def turned(kind: str, ready: Ready | None) -> Ready | None:
            """Which connections are ready, by their numbers."""
            noting.turn()
            if ready and (numbers := self._numbers(ready)):
                note([kind, [], numbers])
            else:
                note(kind)
            return ready

        def notify(port: int) -> None:
            try:
                send(port)
            except OSError as error:
                note(["notify", [port], None, written_error(error)])
                raise
            note(f"notify{port}")

        wait, look = below.block, below.poll
        self.time_ns = time_ns
        self.block = lambda deadline: turned("block", wait(deadline))
        self.poll = lambda: turned("poll", look())
        self.demux = demux
        self.unmask = below.unmask
        self.notify = notify

    def _numbers(self, ready: Ready) -> list[int]:
        return sorted(
            {each.number for each in self._connections for key, _ in ready if each.has(key)}
        )

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

    # The rest

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


class Connection:
    """A connection to xenstored that goes by a journal."""

    def __init__(
        self, half: JournalHalf, journal: Journal, number: int, below: StoreConnection | None
    ) -> None:
        self._half = half
        self._journal = journal
        self.number = number
        self._below = below
        self._user: StoreUser
        self._keys: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def has(self, key: selectors.SelectorKey) -> bool:
        return key.fd in self._keys

    def start(self, user: StoreUser) -> None:
        self._user = user
        with self._half.opening():
            if self._below is None:
                self._loop = asyncio.get_running_loop()
                self._loop.add_reader(PSEUDO + self.number, self._readable)
                return
            before = {key.fd for key in self._half.descriptors.get_map().values()}
            self._below.start(self)
            now = {key.fd for key in self._half.descriptors.get_map().values()}
            self._keys = now - before

    def send(self, message: bytes) -> None:
        below = self._below
        self._journal.ask(
            "send",
            [self.number, message.decode("latin-1")],
            lambda: below.send(message) if below else None,
        )

    def close(self) -> None:
        self._journal.ask("close_store", [self.number], self._close)
        if self._loop is not None and self._below is None:
            self._loop.remove_reader(PSEUDO + self.number)

    def _close(self) -> None:
        self._keys = set()
        if self._below is not None:
            self._below.close()

    # As the user of the real connection

    def received(self, data: bytes) -> None:
        self._journal.heard("received", self.number, text(data))
        self._user.received(data)

    def refused(self, message: bytes, error: Exception) -> None:
        self._journal.heard("refused", self.number, "refused", text(message), written_error(error))
        self._user.refused(message, error)

    def lost(self, error: Exception | None) -> None:
        self._journal.heard("lost", self.number, "lost", error and written_error(error))
        self._user.lost(error)

    # In a replay

    def _readable(self) -> None:
        """Take in what was taken in here."""
        journal = self._journal
        assert isinstance(journal, Reading)
        while event := journal.next_is("received", "refused", "lost"):
            number, *what = event[1]
            if event[0] == "received":
                self._user.received(octets(what[0]))
            else:
                self._half.tell(number, *what)

    def told(self, kind: str, *what: Any) -> None:
        if kind == "refused":
            self._user.refused(octets(what[0]), read_error(*what[1]))
        else:
            self._user.lost(read_error(*what[0]) if what[0] else None)


class JournalTable:
    """A grant table that goes by a journal."""

    def __init__(self, journal: Noting | Reading, below: GrantTable | None) -> None:
        self._journal = journal
        self._below: Any = below
        self._made = 0

    def share(self, domid: int, pages: int, writable: bool) -> Pages:
        made: list[GrantedPages] = []

        def share() -> list[int]:
            made.append(self._below.share(domid, pages, writable))
            return list(made[0].refs)

        refs = self._journal.ask("share", [domid, pages, writable], share) or [0] * pages
        return self._pages(made, domid, refs, True)

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> Pages:
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
    ) -> Pages:
        self._made += 1
        below = made[0] if made else None
        return Pages(self._journal, f"pages {self._made}", below, domid, tuple(refs), writable)


def _plain(segment: Segment) -> list[Any]:
    ends = [list(e) if isinstance(e, Foreign) else "own" for e in (segment.source, segment.dest)]
    return [*ends, segment.length]


def _bytes(segment: Segment) -> memoryview:
    assert not isinstance(segment.dest, Foreign)
    return memoryview(segment.dest).cast("B")


class Pages:
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


def _never() -> int:
    raise AssertionError("in a replay nobody is asked")


def _check(half: JournalHalf) -> LowerHalf:
    """Have the type checker hold it against the protocol."""
    return half
