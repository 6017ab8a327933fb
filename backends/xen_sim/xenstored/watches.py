"""Who wants to hear of which path.

A change is looked up along its own path, not tried against every watch there is: with hundreds
of domains each holding a few, most watches have nothing to do with it. What is found is told in
the order of Xen's xenstored: connection by connection as they came, then watch by watch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from xen_sim.xenstored.paths import parent

if TYPE_CHECKING:
    from xen_sim.xenstored.connection import Connection


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """One watch of one connection."""

    connection: Connection
    path: str
    token: str
    relative: str
    """The domain's home and a slash, which events leave out; empty for an absolute watch."""
    order: tuple[int, int]
    """The connection's number, then the watch's."""

    def reported(self, path: str) -> str:
        """A changed path as this watch's events give it."""
        return path[len(self.relative) :]


class Watches:
    """All watches of all connections, by path."""

    def __init__(self) -> None:
        self._at: dict[str, list[Watch]] = {}
        self._made = 0

    def add(self, connection: Connection, path: str, token: str, relative: str) -> Watch:
        self._made += 1
        watch = Watch(connection, path, token, relative, (connection.number, self._made))
        self._at.setdefault(path, []).append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        there = self._at[watch.path]
        there.remove(watch)
        if not there:
            del self._at[watch.path]

    def matching(self, path: str, exact: bool) -> list[Watch]:
        """The watches on this path and, unless `exact`, on those above it, in order."""
        paths = (path,) if exact else tuple(_upwards(path))
        return sorted((w for at in paths for w in self._at.get(at, ())), key=attrgetter("order"))


def _upwards(path: str) -> Iterator[str]:
    yield path
    while path != "/" and not path.startswith("@"):
        path = parent(path)
        yield path
