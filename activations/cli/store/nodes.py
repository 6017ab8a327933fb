"""Nodes, and how they look: a tree on a terminal, elsewhere a line each."""

from __future__ import annotations

import errno
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from activations.cli.output import write
from activations.store import Store, StoreError
from activations.store.wire import octets

ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


@dataclass(frozen=True, slots=True)
class Node:
    """A node as `ls` found it, so many levels below where it began."""

    path: str
    depth: int
    value: str | None
    """None where this domain may not read it."""
    permissions: tuple[str, ...] | None
    """None where they were not asked for."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def as_data(self) -> dict[str, object]:
        data: dict[str, object] = {"path": self.path, "value": self.value}
        return data if self.permissions is None else {**data, "permissions": self.permissions}

    def said(self, name: str) -> Text:
        """The node on a line, under this name."""
        value = "?" if self.value is None else f'"{escaped(self.value)}"'
        line = Text.assemble((escaped(name), "cyan"), " = ", value)
        if self.permissions is not None:
            line.append(f"   ({','.join(self.permissions)})", "dim")
        return line


async def walk(store: Store, top: str, recursive: bool, permissions: bool) -> AsyncIterator[Node]:
    """The nodes below `top`, each before what is below it.

    The store does not stand still: what goes away meanwhile is left out. Not by recursion:
    another domain may have made it as deep as it likes.
    """
    waiting = [(path, 1) for path in reversed(await _children(store, top))]
    while waiting:
        path, depth = waiting.pop()
        try:
            node = await _look(store, path, depth, permissions)
            below = await _children(store, path) if recursive and node.value is not None else []
        except StoreError as error:
            if error.errno != errno.ENOENT:
                raise
            continue
        yield node
        waiting += [(each, depth + 1) for each in reversed(below)]


async def _children(store: Store, path: str) -> list[str]:
    prefix = path.rstrip("/")
    return [f"{prefix}/{name}" for name in await store.list(path)]


async def _look(store: Store, path: str, depth: int, permissions: bool) -> Node:
    try:
        value = await store.read(path)
        shown = tuple(map(str, await store.get_perms(path))) if permissions else None
    except StoreError as error:
        if error.errno != errno.EACCES:
            raise
        return Node(path, depth, None, () if permissions else None)
    return Node(path, depth, value, shown)


class Listing:
    """Nodes for people: on a terminal under their names, elsewhere under their paths."""

    def __init__(self, top: str, nodes: list[Node]) -> None:
        self._top = top
        self._nodes = nodes
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def show(self, *, tree: bool) -> None:
        if not self._console.is_terminal:
            lines = [node.said(node.path).plain + "\n" for node in self._nodes]
            write(octets("".join(lines)))
        elif tree:
            self._console.print(Text(escaped(self._top), "bold"))
            for node, branch in zip(self._nodes, branches(self._nodes), strict=True):
                self._console.print(Text.assemble((branch, "dim"), node.said(node.name)))
        else:
            for node in self._nodes:
                self._console.print(node.said(node.name))


def branches(nodes: list[Node]) -> list[str]:
    """What a tree draws before each node. From the end, since a branch looks at what follows."""
    drawn = []
    open_levels: set[int] = set()
    for node in reversed(nodes):
        trunk = "".join("│  " if level in open_levels else "   " for level in range(1, node.depth))
        drawn.append(trunk + ("├─ " if node.depth in open_levels else "└─ "))
        open_levels = {level for level in open_levels if level < node.depth} | {node.depth}
    return drawn[::-1]


def escaped(value: str) -> str:
    """A value on one line, harmless to a terminal: `\\n`, `\\x1b`. Other letters stay."""
    return "".join(each if _is_harmless(each) else _escape(each) for each in value)


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() and letter != "\\"


def _escape(letter: str) -> str:
    return ESCAPES.get(letter) or "".join(f"\\x{byte:02x}" for byte in octets(letter))
