"""What a guest may use up at most. dom0 is exempt.

The defaults of Xen's own xenstored (tools/xenstored/domain.c).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits for each unprivileged domain; ENOSPC beyond them."""

    nodes: int = 1000
    """Nodes it owns."""
    node_size: int = 2048
    """Bytes a node takes: a header, its value, its permissions, its children's names."""
    permissions: int = 5
    """Permissions of one node."""
    watches: int = 128
    transactions: int = 10
    """Transactions open at a time."""
    outstanding: int = 20
    """Messages that wait to be taken out of xenstored before it reads no more from the ring."""
