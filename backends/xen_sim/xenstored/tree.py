"""What may be done with nodes, by whom: the permission checks and the changes to the tree.

All of it works on a view, so alike within a transaction and outside of one. Firing watches is not
its business.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from activations.store import Access, Permission
from xen_sim.xenstored.database import Node, View
from xen_sim.xenstored.domains import Domains
from xen_sim.xenstored.paths import child, leaf, parent
from xen_sim.xenstored.quota import Quota
from xen_sim.xenstored.refusal import Refused

PRIVILEGED = 0
"""The control domain: it may do everything, and has no quota."""

_ALL = Access.READ | Access.WRITE


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `target` is the domain it may act for (XS_SET_TARGET), if any; `domains` are
    those there are."""

    domid: int
    target: int | None
    domains: Domains

    @property
    def privileged(self) -> bool:
        return self.domid == PRIVILEGED

    def owns(self, node: Node) -> bool:
        return self.privileged or node.owner in (self.domid, self.target)

    def access(self, node: Node) -> Access:
        """What the node's permissions let the caller do. The first one listed for it counts."""
        if self.owns(node):
            return _ALL
        owners, *others = node.permissions
        for each in others:
            if each.domid in (self.domid, self.target) and self.is_meant(each.domid, node):
                return each.access
        return owners.access

    def is_meant(self, domid: int, node: Node) -> bool:
        """Whether the node's permissions for a domain are for the one that has this number now."""
        since = self.domains.since(domid)
        return since is not None and since <= node.generation and domid not in node.void


@dataclass(frozen=True, slots=True)
class Tree:
    """The view as one caller may use it. Methods raise `Refused`."""

    view: View
    caller: Caller
    quota: Quota

    def find(self, path: str, want: Access, *, own: bool = False) -> Node | None:
        """The node, or None if there is none and the caller may know it. EACCES otherwise; also,
        if it has to be its `own`, where it is not."""
        node = self.view.get(path)
        if node and want in self.caller.access(node) and (self.caller.owns(node) or not own):
            return node
        # the parents are asked in either case, as Xen's xenstored does: a transaction that was
        # refused a node has seen the node's parent
        if not self._may_know(path, want) or node:
            raise Refused(errno.EACCES)
        return None

    def get(self, path: str, want: Access, *, own: bool = False) -> Node:
        """The node. ENOENT, or EACCES where the caller may not even know that."""
        node = self.find(path, want, own=own)
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
        above = self._renewed(above)
        permissions = above.permissions
        if not self.caller.privileged:
            permissions = (permissions[0]._replace(domid=self.caller.domid), *permissions[1:])
        nodes = {path: Node(permissions, value, void=above.void)}
        for below, at in pairwise(missing):
            nodes[at] = Node(permissions, children=(leaf(below),), void=above.void)
        nodes[parent(missing[-1])] = above.with_child(leaf(missing[-1]))
        self.view.making()
        for begun, node in enumerate(nodes.values()):
            if begun < len(missing):
                self._check_count(begun)
            self._check_size(node, begun)
        for at, node in nodes.items():
            self.view.put(at, node)

    def write(self, path: str, node: Node, value: bytes) -> None:
        """Give an existing node another value."""
        self._put(path, replace(self._renewed(node), value=value))

    def set_permissions(self, path: str, permitted: Node) -> Node:
        """The owner may, or dom0; a guest cannot give a node away. Gives the node as it was."""
        node = self.get(path, Access.WRITE, own=True)
        if not self.caller.privileged and permitted.owner != node.owner:
            raise Refused(errno.EPERM)
        self._put(path, replace(node, permissions=permitted.permissions, void=permitted.void))
        return node

    def permitted(self, permissions: Sequence[Permission]) -> Node:
        """A node that has these permissions and nothing else. ENOENT for an owner that is not
        there; others may be named in vain."""
        absent = {each.domid for each in permissions if not self.caller.domains.meet(each.domid)}
        if permissions[0].domid in absent:
            raise Refused(errno.ENOENT)
        return Node(tuple(permissions), void=frozenset(absent))

    def remove(self, path: str) -> list[tuple[str, tuple[Node, Node]]]:
        """Take a node out, with all below it; give the path of each, the node, and the one that
        was above it, children before their parents.

        A transaction that others have already spoilt may see nodes that do not fit together:
        EIO, or EINVAL where the parent is missing, and what was removed until then stays so.
        """
        above = self.view.get(parent(path))
        if above is None:
            raise Refused(errno.EINVAL)
        gone = []
        for at, node, over in self._subtree(path, above):
            self.view.delete(at)
            if at != path:
                self._forget_child(at, self.view.get(parent(at)))
            gone.append((at, (node, over)))
        self._forget_child(path, above)
        return gone

    def _forget_child(self, path: str, above: Node | None) -> None:
        if above is None or leaf(path) not in above.children:
            raise Refused(errno.EIO)
        self.view.put(parent(path), self._renewed(above).without_child(leaf(path)))

    def _subtree(self, path: str, above: Node) -> Iterator[tuple[str, Node, Node]]:
        """Each with the one above it, children before their parents. Without recursion: a guest's
        path has up to 1024 parts."""
        waiting = [(path, above, False)]
        while waiting:
            at, above, entered = waiting.pop()
            node = self._walked(at)
            if entered:
                yield at, node, above
            else:
                waiting.append((at, above, True))
                waiting += [(child(at, name), node, False) for name in reversed(node.children)]

    def _walked(self, path: str) -> Node:
        """A node of a subtree. EIO whatever keeps it from being seen."""
        with suppress(Refused):
            if node := self.view.get(path):
                return node
        raise Refused(errno.EIO)

    def _may_know(self, path: str, want: Access) -> bool:
        """Whether a missing node's nearest ancestor would grant as much."""
        while not (above := self.view.get(parent(path))):
            path = parent(path)
        return bool(self.caller.access(above) & want)

    def _renewed(self, node: Node) -> Node:
        """A node that is to be changed: from now on its age does not tell any more which domains
        its permissions do not mean."""
        named = {each.domid for each in node.permissions[1:]}
        void = frozenset(domid for domid in named if not self.caller.is_meant(domid, node))
        return replace(node, void=void) if void else node

    def _put(self, path: str, node: Node) -> None:
        self._check_size(node)
        self.view.put(path, node)

    # Of nodes that are made one after the other, some were begun before the one that is checked.

    def _check_count(self, begun: int) -> None:
        if self.caller.privileged or self.view.owned(self.caller.domid, begun) < self.quota.nodes:
            return
        if begun:
            self.view.spoil(begun)
        raise Refused(errno.ENOSPC)

    def _check_size(self, node: Node, begun: int = 0) -> None:
        if not self.caller.privileged and node.size >= self.quota.node_size:
            self.view.spoil(begun + 1)
            raise Refused(errno.ENOSPC)
