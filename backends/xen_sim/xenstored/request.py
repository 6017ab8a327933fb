"""A request, with everything it touches."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from activations.abi.xs_wire import MessageType
from activations.store.wire import Message, strings
from xen_sim.xenstored import paths
from xen_sim.xenstored.database import Node, Transaction, View
from xen_sim.xenstored.refusal import Refused
from xen_sim.xenstored.tree import Tree

if TYPE_CHECKING:
    from xen_sim.xenstored.connection import Cause, Connection
    from xen_sim.xenstored.server import Xenstored


@dataclass
class Request:
    """A message, who sent it, and what it works on."""

    xenstored: Xenstored
    connection: Connection
    message: Message
    kind: MessageType
    transaction: Transaction | None
    cause: Cause | None
    """What is counted, if it is a guest's."""

    @cached_property
    def arguments(self) -> list[str]:
        """The payload's strings."""
        return strings(self.message.payload)

    @cached_property
    def only_argument(self) -> str:
        """The one string the payload is. EINVAL if it is anything else."""
        if len(self.arguments) != 1 or not self.message.payload.endswith(b"\0"):
            raise Refused(errno.EINVAL)
        return self.arguments[0]

    @property
    def view(self) -> View:
        return self.transaction or self.xenstored.database

    @property
    def tree(self) -> Tree:
        return Tree(self.view, self.connection.caller, self.xenstored.quota)

    def path(self, argument: str) -> str:
        return paths.absolute(argument, self.connection.domid)

    def changed(self, path: str, *, exact: bool = False, before: Sequence[Node] = ()) -> None:
        """Fire the watches, now or at the transaction's commit. Who could see a node as it was
        `before` may know as well."""
        if self.transaction:
            self.transaction.fire(path, exact)
        else:
            self.xenstored.fire(path, exact=exact, before=before, cause=self.cause)

    def reply(self, payload: bytes = b"OK\0") -> None:
        self.connection.reply(self.message, self.kind, payload, self.cause)
