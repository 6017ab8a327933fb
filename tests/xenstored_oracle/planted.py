"""Faults for a copy of the simulated xenstored, each of which the comparison has to see.

One a line of code, where somebody could have written it so.
"""

from __future__ import annotations

from xen_oracle.planted import Planted

_CONNECTION = "xenstored/connection.py"
_DATABASE = "xenstored/database.py"
_DOMAINS = "xenstored/domains.py"
_NUMBERS = "xenstored/numbers.py"
_OPERATIONS = "xenstored/operations.py"
_PATHS = "xenstored/paths.py"
_RING = "xenstored/ring.py"
_SERVER = "xenstored/server.py"
_TREE = "xenstored/tree.py"
_WATCHES = "xenstored/watches.py"

FAULTS = (
    # nodes and who may do what with them
    Planted("a node may be as large as its quota", _TREE, "node.size >=", "node.size >"),
    Planted(
        "who may write may set permissions",
        _TREE,
        "self.get(path, Access.WRITE, own=True)",
        "self.get(path, Access.WRITE)",
    ),
    Planted(
        "a guest gives its node away",
        _TREE,
        "if not self.caller.privileged and permitted.owner != node.owner:",
        "if False:",
    ),
    Planted(
        "what a guest makes is its parent's owner's",
        _TREE,
        "permissions[0]._replace(domid=self.caller.domid)",
        "permissions[0]",
    ),
    Planted(
        "everybody learns that a node is missing",
        _TREE,
        "if not self._may_know(path, want) or node:",
        "if node:",
    ),
    Planted(
        "a permission is for a later domain of that number too",
        _TREE,
        "since is not None and since <= node.generation",
        "since is not None",
    ),
    Planted(
        "a change makes old permissions young",
        _TREE,
        "return replace(node, void=void) if void else node",
        "return node",
    ),
    Planted("one node too many", _TREE, "begun) < self.quota.nodes", "begun) <= self.quota.nodes"),
    Planted(
        "children are listed by name",
        _DATABASE,
        "children=(*self.children, name)",
        "children=tuple(sorted((*self.children, name)))",
    ),
    # requests
    Planted(
        "a listing's part ends without a sign",
        _OPERATIONS,
        "    if end == len(listing) - 1:\n        end += 1\n",
        "",
    ),
    Planted(
        "the root is removed like any node",
        _OPERATIONS,
        '        if path == "/":\n            raise Refused(errno.EINVAL)\n',
        "",
    ),
    Planted(
        "to remove what is missing is always fine",
        _OPERATIONS,
        "elif not request.view.get(paths.parent(path)):",
        "elif False:",
    ),
    Planted("all numbers are decimal", _NUMBERS, "int(octal, 8)", "int(octal)"),
    Planted("an odd path is no reason to refuse", _PATHS, '"//" in full or', ""),
    Planted("a domain's home is as long as any path", _PATHS, "at_home.end() if at_home", "0 if 0"),
    # transactions
    Planted(
        "a conflict is overlooked where a node was only read",
        _DATABASE,
        "for path, node in self._seen.items())",
        "for path, node in self._seen.items() if path in self._now)",
    ),
    Planted(
        "what is committed is told in the order of the changes",
        _DATABASE,
        "        for path in self._seen:\n",
        "        for path in dict.fromkeys([*self._now, *self._seen]):\n",
    ),
    Planted(
        "what was refused halfway is committed",
        _OPERATIONS,
        "    if transaction.spoilt:\n",
        "    if False:\n",
    ),
    Planted(
        "a transaction sees one node more",
        _DATABASE,
        "if len(self._seen) == self._limit:",
        "if len(self._seen) - 1 == self._limit:",
    ),
    Planted(
        "quotas are not asked at the end",
        _OPERATIONS,
        "nodes >= xenstored.quota.nodes",
        "nodes > xenstored.quota.nodes",
    ),
    # watches
    Planted(
        "an event that waits is told twice",
        _CONNECTION,
        'if event in self._pending_events and not path.startswith("@"):',
        "if False:",
    ),
    Planted(
        "one watch too many",
        _OPERATIONS,
        "len(connection.watches) > quota.watches",
        "len(connection.watches) > quota.watches + 1",
    ),
    Planted(
        "who could see a node is not told that it cannot any more",
        _OPERATIONS,
        "request.changed(path, before=[before])",
        "request.changed(path)",
    ),
    Planted(
        "the last watch of a client is told first",
        _WATCHES,
        "(connection.number, self._made))",
        "(connection.number, -self._made))",
    ),
    Planted(
        "below what is removed, watches hear of all that is above",
        _OPERATIONS,
        "exact=at != path, before=before)",
        "before=before)",
    ),
    Planted(
        "a watch is told before its request is answered",
        _OPERATIONS,
        "    request.reply()\n    connection.send_event(added, path)\n",
        "    connection.send_event(added, path)\n    request.reply()\n",
    ),
    # domains
    Planted(
        "a shutdown is told again",
        _SERVER,
        "if self.introduced.get(domid) is False:",
        "if domid in self.introduced:",
    ),
    Planted(
        "a domain that is released leaves its nodes",
        _SERVER,
        "            self._disown(domid)\n",
        "            pass\n",
    ),
    Planted(
        "a domain that is introduced again keeps its watches",
        _CONNECTION,
        "        self.reset()\n        self._drop_output()\n        self._decoder",
        "        self._drop_output()\n        self._decoder",
    ),
    Planted(
        "a released domain is as good as gone",
        _DOMAINS,
        "        self._known.pop(domid, None)\n",
        "        self._known.pop(domid, None)\n        self._exist.discard(domid)\n",
    ),
    # rings
    Planted(
        "a request is outstanding until its reply is taken",
        _CONNECTION,
        "self._emit(event, cause)",
        "self._emit(event, None)",
    ),
    Planted(
        "a ring is read while much is outstanding",
        _RING,
        "if connection.saturated or not requests.used:",
        "if not requests.used:",
    ),
    Planted(
        "a ring is read to its end before anything is answered",
        _RING,
        "            moved |= self._respond()",
        "            moved = moved or self._respond()",
    ),
    Planted("a ring's fault is another", _RING, "RingFault.RINGIDX", "RingFault.COMM"),
    Planted(
        "a message is forgotten when half of it is written",
        _RING,
        "if self._written == len(message):",
        "if self._written >= HEADER.size:",
    ),
)
