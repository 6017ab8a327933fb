"""The tree, and a transaction's view of it.

Nodes never change: a change puts a new node in the old one's place, stamped with a new
generation. So a transaction needs no copy of the database. It remembers each node as it first saw
it, keeps its own changes to itself, and can be committed if every node it saw is still the one in
the database; any that is not is a conflict. Xen's xenstored decides conflicts by the same rule.

A node's children are a tuple, oldest first: that is the order in which Xen's xenstored lists them.
One more name in a copy of 1,000 takes 5 us; a sorted set, copied, takes 113.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from activations.store import Permission
from xen_sim.xenstored.refusal import Refused

_HEADER = 24
_PERMISSION = 8


@dataclass(frozen=True, slots=True)
class Node:
    """A value, who may see and change it, and the names of the nodes below."""

    permissions: tuple[Permission, ...]
    value: bytes = b""
    children: tuple[str, ...] = ()
    generation: int = 0
    """When it was last changed; no two changes have the same."""
    void: frozenset[int] = frozenset()
    """Domains that the permissions name in vain: they were not there yet, or are gone."""

    @property
    def owner(self) -> int:
        return self.permissions[0].domid

    @property
    def listing(self) -> bytes:
        """The children's names as the wire carries them."""
        return b"".join(name.encode() + b"\0" for name in self.children)

    @property
    def size(self) -> int:
        """Bytes, as Xen's xenstored counts them for the quota."""
        return _HEADER + _PERMISSION * len(self.permissions) + len(self.value) + len(self.listing)

    def with_child(self, name: str) -> Node:
        return replace(self, children=(*self.children, name))

    def without_child(self, name: str) -> Node:
        at = self.children.index(name)
        return replace(self, children=self.children[:at] + self.children[at + 1 :])


class View(Protocol):
    """Nodes by path: the database, or a transaction's sight of it."""

    def get(self, path: str) -> Node | None: ...

    def put(self, path: str, node: Node) -> None:
        """Put a node in place, stamped with a new generation."""

    def delete(self, path: str) -> None:
        """Take a single node out; its children and its parent's listing are the caller's care."""

    def owned(self, domid: int, begun: int) -> int:
        """How many nodes the domain owns, by which its quota is asked whether it may make more when
        it has `begun` so many."""

    def making(self) -> None:
        """A node is to be made, if nothing is in the way."""

    def spoil(self, begun: int) -> None:
        """A change was refused when so many nodes of it were begun, each with a generation."""


class Database:
    """All nodes, by absolute path."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._owned: Counter[int] = Counter()
        self.generation: int = 0
        """The last that was given to a node."""

    def get(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def put(self, path: str, node: Node) -> None:
        if old := self._nodes.get(path):
            self._count(old, -1)
        self._count(node, 1)
        self._nodes[path] = replace(node, generation=self.new_generation())

    def delete(self, path: str) -> None:
        self.new_generation()
        self.drop(path)

    def drop(self, path: str) -> None:
        """Take a node out whose generation a transaction has counted."""
        self._count(self._nodes.pop(path), -1)

    def owned(self, domid: int, begun: int = 0) -> int:
        return self._owned[domid] + begun

    def making(self) -> None:
        pass

    def spoil(self, begun: int) -> None:
        """A single change is made whole or not at all."""
        self.generation += begun

    def paths(self) -> list[str]:
        """Every node there is, in the order in which they came."""
        return list(self._nodes)

    def new_generation(self) -> int:
        self.generation += 1
        return self.generation

    def _count(self, node: Node, change: int) -> None:
        self._owned[node.owner] += change


class Transaction:
    """One client's changes, kept apart until they are committed. It sees no more than `limit`
    nodes, if there is a limit: ENOSPC, and it is spoilt."""

    def __init__(self, database: Database, limit: int | None = None) -> None:
        self.spoilt: bool = False
        """Whether it can only be dropped."""
        self._database = database
        self._limit = limit
        self.made: bool = False
        """Whether a node was to be made, so that quotas are asked at the end."""
        self._seen: dict[str, Node | None] = {}
        self._now: dict[str, Node | None] = {}
        self.gained: Counter[int] = Counter()
        """By how many nodes the domains own more at the end: those that got or lost any."""
        self.fired: dict[str, bool] = {}
        """Paths whose watches the commit fires, and whether only those on the very path."""

    def get(self, path: str) -> Node | None:
        if path in self._now:
            return self._now[path]
        if path not in self._seen:
            if len(self._seen) == self._limit:
                self.spoilt = True
                raise Refused(errno.ENOSPC)
            self._seen[path] = self._database.get(path)
        return self._seen[path]

    def put(self, path: str, node: Node) -> None:
        self._replace(path, replace(node, generation=self._database.new_generation()))

    def delete(self, path: str) -> None:
        self._database.new_generation()
        self._replace(path, None)

    def owned(self, domid: int, begun: int) -> int:
        """Without those made here, which are counted at the end."""
        return self._database.owned(domid)

    def making(self) -> None:
        self.made = True

    def spoil(self, begun: int) -> None:
        self.spoilt = True
        self._database.spoil(begun)

    def fire(self, path: str, exact: bool) -> None:
        """A change below the node as well makes more watches match, never fewer."""
        self.fired[path] = exact and self.fired.get(path, True)

    def before(self, path: str) -> Node | None:
        """The node as this transaction found it."""
        return self._seen.get(path)

    def conflicts(self) -> bool:
        """Whether a node seen here is not the database's any more."""
        return any(self._database.get(path) is not node for path, node in self._seen.items())

    def commit(self) -> Iterator[str]:
        """Make the changes, one by one in the order in which the nodes were first looked at; give
        each path whose watches fire then."""
        for path in self._seen:
            if path not in self._now:
                continue
            if node := self._now[path]:
                self._database.put(path, node)
            elif self._database.get(path):
                self._database.drop(path)
            if path in self.fired:
                yield path

    def _replace(self, path: str, node: Node | None) -> None:
        old = self.get(path)
        if old is None or node is None or old.permissions is not node.permissions:
            for each, change in ((old, -1), (node, 1)):
                if each:
                    self.gained[each.owner] += change
        self._now[path] = node
