"""What both xenstoreds are: connections, guests' ring pages, domains that come and go."""

from __future__ import annotations

from typing import NamedTuple, Protocol

PAGE_SIZE = 4096
DOMAINS = 4
"""The domains that there may be have domids below; 0 is dom0."""


class Limits(NamedTuple):
    """Quotas, as xenstored's options give them."""

    nodes: int = 1000
    node_size: int = 2048
    permissions: int = 5
    watches: int = 128
    transactions: int = 10
    transaction_nodes: int = 1024
    outstanding: int = 20


class Node(NamedTuple):
    path: bytes
    generation: int
    permissions: bytes
    """As xenstored keeps each: domid and access, u32; in bit 4 whether it is for nobody."""
    value: bytes
    children: bytes


class World(Protocol):
    """A xenstored that has just started, in which there is dom0 with an empty ring page."""

    def connect(self) -> None:
        """One more client, over a socket. They are numbered from 0."""

    def ask(self, client: int, data: bytes) -> None:
        """Whole requests, which it handles; what it says waits to be taken."""

    def leave(self, client: int, data: bytes) -> None:
        """The client is gone, and these bytes were the last of it."""

    def take(self, client: int) -> bytes:
        """All that waits for the client."""

    def create(self, domid: int) -> None:
        """Xen has made a domain."""

    def shut_down(self, domid: int) -> None:
        """It has shut down, and is still there."""

    def destroy(self, domid: int) -> None:
        """It is gone."""

    def page(self, domid: int) -> memoryview | None:
        """The ring page that xenstored shares with a domain now."""

    def kick(self, domid: int) -> None:
        """An event over the ring's port."""

    def tree(self) -> list[Node]:
        """All nodes, parents before children, children in their order."""

    def gone(self, client: int) -> bool:
        """Whether xenstored does not listen to the client any more."""

    def account(self, domid: int) -> str:
        """What the domain has of what is limited."""


class Crashed(Exception):
    """A World that could not go on."""
