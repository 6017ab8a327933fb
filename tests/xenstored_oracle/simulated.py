"""The simulated xenstored as a World: the one adapter."""

from __future__ import annotations

import struct
from errno import EINVAL

from activations.store.wire import octets
from xen_sim.xenstored import Connection, Quota, RingServer, Xenstored, database
from xen_sim.xenstored.paths import child
from xen_sim.xenstored.refusal import Refused

from .world import DOMAINS, PAGE_SIZE, Limits, Node, World

_IGNORED = 16
"""XS_PERM_IGNORE of xenstored's: a permission that is for nobody."""


class Simulated(World):
    def __init__(self, limits: Limits) -> None:
        self._xenstored = Xenstored(Quota(*limits))
        self._xenstored.on_introduce = self._introduced
        self._clients: list[Connection] = []
        self._pages: dict[int, memoryview] = {}
        """Of the domains that there are."""
        self._rings: dict[int, RingServer] = {}
        self._make_page(0)
        self._connect_ring(0)

    def connect(self) -> None:
        self._clients.append(self._xenstored.connect(0))

    def ask(self, client: int, data: bytes) -> None:
        self._clients[client].receive(data)

    def leave(self, client: int, data: bytes) -> None:
        self._clients[client].receive(data)
        self._clients[client].close()

    def take(self, client: int) -> bytes:
        return self._clients[client].take_output()

    def create(self, domid: int) -> None:
        self._make_page(domid)
        self._xenstored.create(domid)

    def shut_down(self, domid: int) -> None:
        self._xenstored.shut_down(domid)

    def destroy(self, domid: int) -> None:
        self._xenstored.destroy(domid)
        del self._pages[domid]

    def page(self, domid: int) -> memoryview | None:
        if domid not in self._xenstored.introduced:
            return None
        return self._pages[domid]

    def kick(self, domid: int) -> None:
        self._rings[domid].kick()

    def tree(self) -> list[Node]:
        found, waiting = [], ["/"]
        while waiting:
            path = waiting.pop()
            node = self._xenstored.database.get(path)
            assert node, path
            permissions = self._permissions(node)
            name = octets(path)
            found.append(Node(name, node.generation, permissions, node.value, node.listing))
            waiting += [child(path, each) for each in reversed(node.children)]
        return found

    def _permissions(self, node: database.Node) -> bytes:
        caller = self._xenstored.caller(0)
        owner, *others = node.permissions
        kept = [(owner.domid, int(owner.access))]
        for domid, access in others:
            kept.append((domid, access if caller.is_meant(domid, node) else access | _IGNORED))
        return b"".join(struct.pack("<II", *each) for each in kept)

    def gone(self, client: int) -> bool:
        return self._clients[client].broken

    def account(self, domid: int) -> str:
        connections = [each for each in self._xenstored.connections if each.domid == domid]
        watches = sum(len(each.watches) for each in connections)
        transactions = sum(len(each.transactions) for each in connections)
        outstanding = sum(each.outstanding for each in connections)
        nodes = self._xenstored.database.owned(domid)
        return (
            f"nodes {nodes} watches {watches} transactions {transactions} outstanding {outstanding}"
        )

    def _introduced(self, domid: int, gfn: str, port: int) -> None:
        if domid not in self._pages:
            raise Refused(EINVAL)  # as the stub says
        if domid not in self._xenstored.introduced:
            self._connect_ring(domid)

    def _make_page(self, domid: int) -> None:
        assert domid < DOMAINS
        self._pages[domid] = memoryview(bytearray(PAGE_SIZE))

    def _connect_ring(self, domid: int) -> None:
        connection = self._xenstored.connect(domid)
        self._rings[domid] = RingServer(self._pages[domid], connection, lambda: None)
