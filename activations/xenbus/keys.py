"""The keys that an end finds in the other end's folder, read with suspicion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from activations.store import Nodes, StoreError
from activations.store.errors import UNSEEN
from activations.xenbus.errors import BadKey, MissingKey

_U32 = range(1 << 32)
_MOST = 512
"""Nodes that are read of a folder: a device of 16 queues has 100."""
_PASSING = frozenset({"state", "online"})


class Keys(Mapping[str, str]):
    """The nodes below `path`, as they were at one moment, by their names from there on:
    `ring-ref`, `queue-0/ring-ref`. `owner` says in words whose they are.

    They remember which of them were asked for: see `answers_as`."""

    def __init__(self, owner: str, path: str, nodes: Mapping[str, str]) -> None:
        self.owner = owner
        self.path = path
        self._nodes = dict(nodes)
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        return f"<Keys {self.path}: {self._nodes}>"

    def __getitem__(self, name: str) -> str:
        self._asked.add(name)
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def text(self, name: str, default: str | None = None) -> str:
        """The value. Raises `MissingKey` if there is none, and no default."""
        value = self.get(name, default)
        if value is None:
            raise MissingKey(f"{self.owner} has no key {name} ({self.path}/{name})")
        return value

    def integer(self, name: str, default: int | None = None, *, within: range = _U32) -> int:
        """The value as a number. Raises `MissingKey`, and `BadKey` for what is not a number in
        decimal, or none within the range; the default may lie outside of it."""
        if default is not None and name not in self:
            return default
        value = self.text(name).strip()
        number = int(value) if value.isascii() and value.isdecimal() and len(value) < 21 else None
        if number is None or number not in within:
            raise BadKey(
                f"{self.owner} has {name} = {value[:40]!r}, which is not a number from "
                f"{within.start} to {within.stop - 1} ({self.path}/{name})"
            )
        return number

    def flag(self, name: str) -> bool:
        """Whether the key is there and is not 0. Raises `BadKey` for what is not a number."""
        return self.integer(name, 0) != 0

    # One moment's beside another's

    @property
    def lasting(self) -> dict[str, str]:
        """Those that describe the device, and not how things stand."""
        return {name: value for name, value in self._nodes.items() if name not in _PASSING}

    def ask_all(self) -> Self:
        """Count each that is here as asked for."""
        self._asked.update(self.lasting)
        return self

    def answers_as(self, earlier: Keys) -> bool:
        """Whether what was asked of the earlier ones has the same answer in these."""
        return all(self._nodes.get(name) == earlier._nodes.get(name) for name in earlier._asked)


async def read_keys(store: Nodes, owner: str, path: str) -> Keys:
    """The folder as it is now; empty if it is not there or may not be read."""
    nodes: dict[str, str] = {}
    folders = [""]
    while folders and len(nodes) < _MOST:
        folder = folders.pop()
        try:
            for name in await store.list(f"{path}/{folder}".rstrip("/")):
                nodes[folder + name] = await store.read(f"{path}/{folder}{name}")
                if folder.count("/") < 2 and not nodes[folder + name]:
                    folders.append(f"{folder}{name}/")  # what has a value is not a folder here
        except StoreError as error:
            if error.errno not in UNSEEN:
                raise
    return Keys(owner, path, nodes)
