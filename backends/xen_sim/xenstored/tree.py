"""What may be done with nodes, by whom: the permission checks and the changes to the tree.

All of it works on a view, so alike within a transaction and outside of one. Firing watches is not
its business.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from activations.store import Access, Permission
from xen_sim.xenstored.database import Node, View
from xen_sim.xenstored.paths import child, leaf, parent
from xen_sim.xenstored.quota import Quota
from xen_sim.xenstored.refusal import Refused

PRIVILEGED = 0
"""The control domain: it may do everything, and has no quota."""

_ALL = Access.READ | Access.WRITE


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `target` is the domain it may act for (XS_SET_TARGET), if any."""

    domid: int
    target: int | None = None

    @property
    def privileged(self) -> bool:
        return self.domid == PRIVILEGED

    def owns(self, node: Node) -> bool:
        return self.privileged or node.owner in (self.domid, self.target)

    def access(self, permissions: Sequence[Permission]) -> Access:
        """What these permissions let the caller do. The first one listed for it counts."""
        first, *others = permissions
        if self.privileged or first.domid in (self.domid, self.target):
            return _ALL
        for each in others:
            if each.domid in (self.domid, self.target):
                return each.access
        return first.access


@dataclass(frozen=True, slots=True)
class Tree:
    """The view as one caller may use it. Methods raise `Refused`."""

    view: View
    caller: Caller
    quota: Quota

    def find(self, path: str, want: Access) -> Node | None:
        """The node, or None if there is none and the caller may know it. EACCES otherwise."""
        node = self.view.get(path)
        if node and want in self.caller.access(node.permissions):
            return node
        # the parents are asked in either case, as Xen's xenstored does: a transaction that was
        # refused a node has seen the node's parent
        if not self._may_know(path, want) or node:
            raise Refused(errno.EACCES)
        return None

    def get(self, path: str, want: Access) -> Node:
        """The node. ENOENT, or EACCES where the caller may not even know that."""
        node = self.find(path, want)
        if node is None:
            raise Refused(errno.ENOENT)
        return node

    def create(self, path: str, value: bytes = b"") -> None:
        """Make a node, and the missing ones above it.

        Permissions come from the nearest node there is; what a guest makes belongs to the guest.
        """
        missing = [path]
        while not (above := self.view.get(parent(missing[-1]))):
            missing.append(parent(missing[-1]))
        permissions = above.permissions
        if not self.caller.privileged:
            permissions = (permissions[0]._replace(domid=self.caller.domid), *permissions[1:])
            if self.view.owned(self.caller.domid) + len(missing) > self.quota.nodes:
                raise Refused(errno.ENOSPC)
        nodes = {path: Node(permissions, value)}
        for below, at in pairwise(missing):
            nodes[at] = Node(permissions, children=(leaf(below),))
        nodes[parent(missing[-1])] = above.with_child(leaf(missing[-1]))
        for node in nodes.values():
            self._check_size(node)
        for at, node in nodes.items():
            self.view.put(at, node)

    def write(self, path: str, node: Node, value: bytes) -> None:
        """Give an existing node another value."""
        self._put(path, replace(node, value=value))

    def set_permissions(self, path: str, permissions: tuple[Permission, ...]) -> None:
        """The owner may, or dom0; a guest cannot give a node away."""
        if not self.caller.privileged and len(permissions) > self.quota.permissions:
            raise Refused(errno.ENOSPC)
        node = self.get(path, Access.WRITE)
        if not self.caller.owns(node):
            raise Refused(errno.EACCES)
        if not self.caller.privileged and permissions[0].domid != node.owner:
            raise Refused(errno.EPERM)
        self._put(path, replace(node, permissions=permissions))

    def remove(self, path: str) -> list[tuple[str, Node]]:
        """Take a node out, with all below it; give what went, children before their parents.

        A transaction that others have already spoilt may see nodes that do not fit together:
        EIO, or EINVAL where the parent is missing, and what was removed until then stays so.
        """
        above = self.view.get(parent(path))
        if above is None:
            raise Refused(errno.EINVAL)
        gone = []
        for at, node in self._subtree(path):
            self.view.delete(at)
            gone.append((at, node))
        if leaf(path) not in above.children:
            raise Refused(errno.EIO)
        self.view.put(parent(path), above.without_child(leaf(path)))
        return gone

    def _subtree(self, path: str) -> Iterator[tuple[str, Node]]:
        """Children before their parents. Without recursion: a guest's path has up to 1024 parts."""
        waiting = [(path, False)]
        while waiting:
            at, entered = waiting.pop()
            node = self.view.get(at)
            if node is None:
                raise Refused(errno.EIO)
            if entered:
                yield at, node
            else:
                waiting.append((at, True))
                waiting += [(child(at, name), False) for name in reversed(node.children)]

    def _may_know(self, path: str, want: Access) -> bool:
        """Whether a missing node's nearest ancestor would grant as much."""
        while not (above := self.view.get(parent(path))):
            path = parent(path)
        return bool(self.caller.access(above.permissions) & want)

    def _put(self, path: str, node: Node) -> None:
        self._check_size(node)
        self.view.put(path, node)

    def _check_size(self, node: Node) -> None:
        if not self.caller.privileged and node.size >= self.quota.node_size:
            raise Refused(errno.ENOSPC)
