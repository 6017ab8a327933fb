"""The simulated xenstored: who is connected, which domains there are, who is told what.

Everything happens within the call that causes it, in an order that depends on nothing but the
calls: no clock, no hashing, no global state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from activations.store import Access, Permission
from xen_sim.xenstored import paths
from xen_sim.xenstored.connection import Connection
from xen_sim.xenstored.database import Database, Node, Transaction
from xen_sim.xenstored.quota import Quota
from xen_sim.xenstored.tree import PRIVILEGED, Caller, Tree
from xen_sim.xenstored.watches import Watches

_CLOSED = (Permission(PRIVILEGED, Access.NONE),)


class Xenstored:
    """A xenstored without I/O.

    `connect(domid)` gives a connection, whose `receive` takes requests; replies and events come
    out of its `take_output`. `introduce`, `shut_down` and `release` are what the hypervisor and
    the toolstack tell it of domains.
    """

    def __init__(self, quota: Quota | None = None) -> None:
        self.quota = quota or Quota()
        self.database = Database()
        self.watches = Watches()
        self.domains: dict[int, int] = {PRIVILEGED: 0}
        """The domains there are, each with the generation of the database in which it came."""
        self.introduced: dict[int, bool] = {PRIVILEGED: False}
        """The domains that are introduced, and whether each has shut down."""
        self.special = {
            path: Node(_CLOSED) for path in (paths.INTRODUCE_DOMAIN, paths.RELEASE_DOMAIN)
        }
        """Who may hear of domains that come and go."""
        self.targets: dict[int, int] = {}
        """Which domain another may act for (XS_SET_TARGET)."""
        self.on_introduce: Callable[[int, str, int], None] = lambda domid, gfn, port: None
        """Called with domid, gfn and port of an XS_INTRODUCE, before it takes effect."""
        self._connections: dict[int, Connection] = {}
        self._connected = 0
        self._with_output: dict[int, Connection] = {}
        self.database.put("/", Node(_CLOSED))
        self._tree.create("/tool/xenstored")

    # Connections

    def connect(self, domid: int) -> Connection:
        """A new client, which speaks for this domain."""
        self._connected += 1
        connection = Connection(self, domid, self._connected)
        self._connections[connection.number] = connection
        return connection

    @property
    def connections(self) -> list[Connection]:
        """All clients, in the order in which they came."""
        return list(self._connections.values())

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.pop(connection.number, None)
        self._with_output.pop(connection.number, None)

    def has_output(self, connection: Connection) -> None:
        """There is something for this client to take: it is called at the next `announce`."""
        self._with_output[connection.number] = connection

    def announce(self) -> None:
        """Call everyone who has something to take, in the order in which it came to be there."""
        while self._with_output:
            number = next(iter(self._with_output))
            self._with_output.pop(number).on_output()

    # Changes

    def fire(self, path: str, *, exact: bool = False, before: Sequence[Node] = ()) -> None:
        """Tell of a change those who watch this path and, unless `exact`, those above it.

        Whoever can read the node or its parent may know, and who can read a node as it was
        `before`.
        """
        permitted: dict[int, bool] = {}
        for watch in self.watches.matching(path, exact):
            connection = watch.connection
            if connection.number not in permitted:
                permitted[connection.number] = self._may_hear(connection.caller, path, before)
            if permitted[connection.number]:
                connection.send_event(watch, path)

    def commit(self, transaction: Transaction) -> bool:
        """Make a transaction's changes and tell of them; False, and nothing, on a conflict."""
        if not transaction.commit():
            return False
        for path, exact in transaction.changes():
            before = transaction.before(path)
            self.fire(path, exact=exact, before=[before] if before else [])
        return True

    def _may_hear(self, caller: Caller, path: str, before: Sequence[Node]) -> bool:
        if special := self.special.get(path):
            return Access.READ in caller.access(special)
        now = [self.database.get(at) for at in (path, paths.parent(path))]
        seen = [*before, *(now if now[0] else ())]
        return any(Access.READ in caller.access(node) for node in seen if node)

    # Domains

    def caller(self, domid: int) -> Caller:
        """Who asks, when this domain does."""
        return Caller(domid, self.targets.get(domid), self.domains)

    def create(self, domid: int) -> None:
        """There is such a domain: permissions that name it from now on are for this one."""
        self.domains.setdefault(domid, self.database.generation)

    def introduce(self, domid: int) -> None:
        """The domain has come: fire @introduceDomain. Again: its connection starts afresh."""
        self.create(domid)
        if domid in self.introduced:
            for connection in self._of(domid):
                connection.reset()
                connection.take_output()
        else:
            self.introduced[domid] = False
            self.fire(paths.INTRODUCE_DOMAIN)
        self.announce()

    def shut_down(self, domid: int) -> None:
        """The domain shut down or crashed, and is still there: fire @releaseDomain, once."""
        if self.introduced.get(domid) is False:
            self.introduced[domid] = True
            self.fire(paths.RELEASE_DOMAIN)
            self.announce()

    def resume(self, domid: int) -> None:
        """The domain runs again: its next shutdown is news."""
        self.introduced[domid] = False

    def release(self, domid: int) -> None:
        """The domain is gone: drop its connections, remove what it owns anywhere, then fire
        @releaseDomain. Permissions that name it are for nobody any more."""
        for connection in self._of(domid):
            connection.close()
        for former in [each for each, target in self.targets.items() if domid in (each, target)]:
            del self.targets[former]
        if self.database.owned(domid):  # mostly its home is gone, and nothing else was its own
            self._disown(domid)
        for path, node in self.special.items():
            if node.owner == domid:
                owners, *others = node.permissions
                given = (owners._replace(domid=PRIVILEGED), *others)
                self.special[path] = replace(node, permissions=given)
        self.domains.pop(domid, None)
        if self.introduced.pop(domid, None) is not None:
            self.fire(paths.RELEASE_DOMAIN)
        self.announce()

    @property
    def _tree(self) -> Tree:
        return Tree(self.database, self.caller(PRIVILEGED), self.quota)

    def _of(self, domid: int) -> list[Connection]:
        return [each for each in self._connections.values() if each.domid == domid]

    def _disown(self, domid: int) -> None:
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            node = self.database.get(path)
            if node and node.owner == domid and path != "/":
                for at, before in self._tree.remove(path):
                    self.fire(at, exact=at != path, before=before)
            elif node:
                waiting += [paths.child(path, name) for name in reversed(node.children)]
