"""What may go wrong with a request, as xenstored asks it."""

from __future__ import annotations

from typing import Protocol

from activations.abi.xs_wire import MessageType


class Faults(Protocol):
    """Asked before each request."""

    def lost(self, domid: int, kind: MessageType) -> bool:
        """Whether the connection is gone before this request is served."""

    def refused(self, domid: int, kind: MessageType) -> int:
        """The errno that the request is refused with; 0 for none."""

    def conflicts(self, domid: int) -> bool:
        """Whether somebody else's change is said to have come before this domain's commit."""
