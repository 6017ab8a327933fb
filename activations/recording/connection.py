"""A connection to xenstored that goes by a journal: what comes, and at which place among the loop's
callbacks it came."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

from activations.lower import StoreConnection, StoreUser
from activations.recording.form import octets, text
from activations.recording.journal import Journal, Reading, read_error, written_error

if TYPE_CHECKING:
    from activations.recording.seam import JournalHalf

PSEUDO = 1 << 24
"""In a replay, the number of the first connection's descriptor: no real one is so large."""


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
