"""What a guest may use up at most. dom0 is exempt.

The defaults of Xen's own xenstored (tools/xenstored/domain.c). Not simulated are its limits on the
memory a guest takes, all in all, and on how many changes it makes in a second.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits for each unprivileged domain; ENOSPC beyond them, E2BIG for watches. Some are kept
    less strictly than they sound."""

    nodes: int = 1000
    """Nodes it owns. Those of a transaction are counted at its end, and then must be fewer."""
    node_size: int = 2048
    """Bytes a node takes, less one: a header, its value, its permissions, its children's names."""
    permissions: int = 5
    """Permissions of one node."""
    watches: int = 128
    """Watches set before the last one."""
    transactions: int = 10
    """Transactions open before the last one."""
    transaction_nodes: int = 1024
    """Nodes seen within a transaction, missing ones among them."""
    outstanding: int = 20
    """Requests of which the reply, or an event that came of it, waits to be taken, before no more
    are read from the ring."""
