"""The simulated xenstored: who is connected, which domains there are, who is told what.

Everything happens within the call that causes it, in an order that depends on nothing but the
calls: no clock, no hashing, no global state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sortedcontainers import SortedSet

from activations.store import Access, Permission
from xen_sim.xenstored import paths
from xen_sim.xenstored.connection import Cause, Connection
from xen_sim.xenstored.database import Database, Node, Transaction
from xen_sim.xenstored.domains import Domains
from xen_sim.xenstored.faults import Faults
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
        self.quota: Quota = quota or Quota()
        self.database: Database = Database()
        database = self.database
        self.watches: Watches = Watches()
        self.domains: Domains = Domains(lambda: database.generation)
        self.introduced: dict[int, bool] = {PRIVILEGED: False}
        """The domains that are introduced, and whether each has shut down."""
        self.special: dict[str, Node] = {
            path: Node(_CLOSED) for path in (paths.INTRODUCE_DOMAIN, paths.RELEASE_DOMAIN)
        }
        """Who may hear of domains that come and go."""
        self.targets: dict[int, int] = {}
        """Which domain another may act for (XS_SET_TARGET)."""
        self.on_introduce: Callable[[int, str, int], None] = lambda domid, gfn, port: None
        """Called with domid, gfn and port of an XS_INTRODUCE, before it takes effect."""
        self.faults: Faults | None = None
        """What may go wrong with each request; None where nothing does."""
        self.domains.come(PRIVILEGED)
        self.domains.meet(PRIVILEGED)
        self._connections: dict[int, Connection] = {}
        self._connected = 0
        self._busy: SortedSet[int] = SortedSet()
        """Clients for which there may be something to do, by number: in the order they came."""
        self._serving = False
        for path, below in (("/", "tool"), ("/tool", "xenstored"), ("/tool/xenstored", "")):
            self.database.put(path, Node(_CLOSED, children=(below,) if below else ()))

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
        self._busy.discard(connection.number)

    def busy(self, connection: Connection) -> None:
        """There may be something to do for this client at the next `serve`."""
        if connection.number in self._connections:
            self._busy.add(connection.number)

    def serve(self, between: Connection | None = None) -> None:
        """Go round the clients in the order in which they came, as Xen's xenstored does: each has
        its turn, in which it may say one thing and be told one, until nothing moves any more; or
        once round the others, `between` two things that a client has to say."""
        if self._serving:
            return  # the call that is serving goes on
        self._serving = True
        try:
            if between:
                self._turns(between.number, self._connected)
                self._turns(0, between.number - 1)
            while self._busy and not between:
                self._turns(0, self._connected)
        finally:
            self._serving = False

    def _turns(self, last: int, end: int) -> None:
        """One for each client after the `last` and up to the `end`."""
        busy = self._busy
        while (at := busy.bisect_right(last)) < len(busy) and busy[at] <= end:
            last = busy.pop(at)
            connection = self._connections[last]
            if connection.on_turn():
                self._busy.add(last)

    # Changes

    def fire(
        self,
        path: str,
        *,
        exact: bool = False,
        before: Sequence[Node] = (),
        cause: Cause | None = None,
    ) -> None:
        """Tell of a change those who watch this path and, unless `exact`, those above it.

        A domain that can read the node or its parent may know, and who can read a node as it was
        `before`.
        """
        permitted: dict[int, bool] = {}
        for watch in self.watches.matching(path, exact):
            connection = watch.connection
            if connection.number not in permitted:
                permitted[connection.number] = self._may_hear(connection.caller, path, before)
            if permitted[connection.number]:
                connection.send_event(watch, path, cause)

    def commit(self, transaction: Transaction, cause: Cause | None = None) -> bool:
        """Make a transaction's changes and tell of them; False, and nothing, on a conflict."""
        if transaction.conflicts():
            return False
        for path in transaction.commit():
            before, exact = transaction.before(path), transaction.fired[path]
            self.fire(path, exact=exact, before=[before] if before else [], cause=cause)
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
        self.domains.come(domid)

    def introduce(self, domid: int) -> None:
        """The domain has come: fire @introduceDomain. Again: its connection starts afresh."""
        self.create(domid)
        self.domains.meet(domid)
        if domid not in self.introduced:
            self.introduced[domid] = False
            self.fire(paths.INTRODUCE_DOMAIN)
        for connection in self._of(domid):
            connection.restart()
        self.serve()

    def shut_down(self, domid: int) -> None:
        """The domain shut down or crashed, and is still there: fire @releaseDomain, once."""
        if self.introduced.get(domid) is False:
            self.introduced[domid] = True
            self.fire(paths.RELEASE_DOMAIN)
            self.serve()

    def resume(self, domid: int) -> None:
        """The domain runs again: its next shutdown is news."""
        self.introduced[domid] = False

    def destroy(self, domid: int) -> None:
        """The domain is gone, and released if it was introduced."""
        self.release(domid)
        self.domains.go(domid)

    def release(self, domid: int) -> None:
        """The domain is to be forgotten: drop its connections, remove what it owns anywhere, then
        fire @releaseDomain. Permissions that name it hold for no domain any more."""
        for connection in self._of(domid):
            connection.close()
        for former in [each for each, target in self.targets.items() if domid in (each, target)]:
            del self.targets[former]
        if self.database.owned(domid):  # mostly its home is gone, and nothing else was its own
            self._disown(domid)
        for path, node in self.special.items():
            owner, *others = node.permissions
            if owner.domid == domid:
                owner = owner._replace(domid=PRIVILEGED)
            kept = (owner, *(each for each in others if each.domid != domid))
            self.special[path] = replace(node, permissions=kept)
        self.domains.forget(domid)
        if self.introduced.pop(domid, None) is not None:
            self.fire(paths.RELEASE_DOMAIN)
        self.serve()

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
