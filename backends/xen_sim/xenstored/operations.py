"""What each request does: the table, and a function a row.

A function is given the request with everything it touches, and answers it; or raises `Refused`,
and the errno's name goes back. The order of events and replies is that of Xen's xenstored: a
change is told before its request is answered, a new watch fires after.
Source: docs/misc/xenstore.txt; behaviour from tools/xenstored.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from activations.abi.event_channel import DOMID_SELF
from activations.abi.xenstore_paths import home
from activations.abi.xs_wire import ERROR_NAMES, PAYLOAD_MAX, MessageType
from activations.store import Access, Permission
from activations.store.permission import ACCESSES
from activations.store.wire import Message, octets, strings
from xen_sim.xenstored import paths
from xen_sim.xenstored.database import Node, Transaction
from xen_sim.xenstored.numbers import leading, signed, whole
from xen_sim.xenstored.refusal import Refused
from xen_sim.xenstored.request import Request
from xen_sim.xenstored.tree import PRIVILEGED

if TYPE_CHECKING:
    from xen_sim.xenstored.connection import Connection
    from xen_sim.xenstored.faults import Faults
    from xen_sim.xenstored.server import Xenstored


def perform(xenstored: Xenstored, connection: Connection, message: Message) -> None:
    """Do what a message asks, and answer it."""
    cause = connection.new_cause()
    try:
        operation = OPERATIONS.get(message.kind)
        if operation is None:
            raise Refused(errno.ENOSYS)
        if operation.privileged and connection.domid != PRIVILEGED:
            raise Refused(errno.EACCES)
        transaction = None
        if message.tx_id and operation.transactional:
            transaction = connection.transactions.get(message.tx_id)
            if transaction is None:
                raise Refused(errno.ENOENT)
        kind = MessageType(message.kind)
        if xenstored.faults is not None and _goes_wrong(xenstored.faults, connection, kind):
            return
        operation.run(Request(xenstored, connection, message, kind, transaction, cause))
    except Refused as refused:
        name = ERROR_NAMES[refused.errno].encode() + b"\0"
        connection.reply(message, MessageType.ERROR, name, cause)


def _goes_wrong(faults: Faults, connection: Connection, kind: MessageType) -> bool:
    """Whether the connection is gone, and the request with it; or else the request is refused."""
    if faults.lost(connection.domid, kind):
        connection.lose()
        return True
    if refused := faults.refused(connection.domid, kind):
        raise Refused(refused)
    return False


# Nodes


def directory(request: Request) -> None:
    path = request.path(request.only_argument)
    request.reply(request.tree.get(path, Access.READ).listing)


def directory_part(request: Request) -> None:
    """As many whole names as fit, from an offset of bytes; a last empty name says it was all."""
    argument, offset = _exactly(request.arguments, 2)
    node = request.tree.get(request.path(argument), Access.READ)
    listing = node.listing + b"\0"
    generation = octets(node.generation) + b"\0"
    start = min(leading(offset), len(listing) - 1)
    room = PAYLOAD_MAX - len(generation) - 1  # always a byte for that name
    end = listing.rfind(b"\0", start, start + room) + 1
    if end == len(listing) - 1:
        end += 1
    request.reply(generation + listing[start:end])


def read(request: Request) -> None:
    path = request.path(request.only_argument)
    request.reply(request.tree.get(path, Access.READ).value)


def write(request: Request) -> None:
    argument, nul, value = request.message.payload.partition(b"\0")
    if not nul:
        raise Refused(errno.EINVAL)
    path = request.path(strings(argument + nul)[0])
    if node := request.tree.find(path, Access.WRITE):
        request.tree.write(path, node, value)
    else:
        request.tree.create(path, value)
    request.changed(path)
    request.reply()


def mkdir(request: Request) -> None:
    path = request.path(request.only_argument)
    if not request.tree.find(path, Access.WRITE):
        request.tree.create(path)
        request.changed(path)
    request.reply()


def rm(request: Request) -> None:
    path = request.path(request.only_argument)
    if request.tree.find(path, Access.WRITE):
        if path == "/":
            raise Refused(errno.EINVAL)
        for at, before in request.tree.remove(path):
            # watches within the subtree hear of their own node alone
            request.changed(at, exact=at != path, before=before)
    elif not request.view.get(paths.parent(path)):
        raise Refused(errno.ENOENT)
    request.reply()


def get_perms(request: Request) -> None:
    path = request.path(request.only_argument)
    node = request.tree.get(path, Access.READ)
    shown = (each._replace(domid=signed(each.domid)) for each in node.permissions)
    request.reply(b"".join(octets(str(each)) + b"\0" for each in shown))


def set_perms(request: Request) -> None:
    argument, *wanted = request.arguments or [""]
    if not wanted:
        raise Refused(errno.EINVAL)
    most = request.xenstored.quota.permissions
    if not request.connection.caller.privileged and len(wanted) > most:
        raise Refused(errno.ENOSPC)
    permitted = request.tree.permitted([_permission(each) for each in wanted])
    if argument.startswith("@"):
        _let_hear(request, argument, permitted)
    else:
        path = request.path(argument)
        before = request.tree.set_permissions(path, permitted)
        request.changed(path, before=[before])
    request.reply()


def _permission(wire: str) -> Permission:
    domid = whole(wire[1:])
    if domid is None or wire[0] not in ACCESSES:
        raise Refused(errno.EINVAL)
    return Permission(domid, ACCESSES[wire[0]])


def _let_hear(request: Request, path: str, permitted: Node) -> None:
    """Say who may hear of domains that come and go: at once, within a transaction too."""
    xenstored = request.xenstored
    if path not in xenstored.special:
        raise Refused(errno.EINVAL)
    if not request.connection.caller.owns(xenstored.special[path]):
        raise Refused(errno.EACCES)
    xenstored.special[path] = replace(permitted, generation=xenstored.database.generation)


# Watches


def watch(request: Request) -> None:
    argument, token = _exactly(request.arguments, 2)
    connection, quota = request.connection, request.xenstored.quota
    path = paths.watchable(argument, connection.domid)
    if any((each.path, each.token) == (path, token) for each in connection.watches):
        raise Refused(errno.EEXIST)
    if not connection.caller.privileged and len(connection.watches) > quota.watches:
        raise Refused(errno.E2BIG)
    relative = "" if argument[0] in "/@" else home(connection.domid) + "/"
    added = request.xenstored.watches.add(connection, path, token, relative)
    connection.watches.append(added)
    request.reply()
    connection.send_event(added, path)


def unwatch(request: Request) -> None:
    argument, token = _exactly(request.arguments, 2)
    path = paths.canonical(argument, request.connection.domid)
    for each in request.connection.watches:
        if (each.path, each.token) == (path, token):
            request.connection.watches.remove(each)
            request.xenstored.watches.remove(each)
            return request.reply()
    raise Refused(errno.ENOENT)


def reset_watches(request: Request) -> None:
    request.connection.reset()
    request.reply()


# Transactions


def transaction_start(request: Request) -> None:
    connection = request.connection
    if request.transaction:
        raise Refused(errno.EBUSY)
    quota, database = request.xenstored.quota, request.xenstored.database
    if connection.caller.privileged:
        transaction = Transaction(database)
    elif len(connection.transactions) > quota.transactions:
        raise Refused(errno.ENOSPC)
    else:
        transaction = Transaction(database, quota.transaction_nodes)
    database.new_generation()
    number = connection.new_transaction(transaction)
    request.reply(octets(number) + b"\0")


def transaction_end(request: Request) -> None:
    verdict = request.only_argument
    if verdict not in ("T", "F"):
        raise Refused(errno.EINVAL)
    transaction = request.transaction
    if transaction is None:
        raise Refused(errno.ENOENT)
    del request.connection.transactions[request.message.tx_id]
    if verdict == "T":
        _commit(request, transaction)
    request.reply()


def _commit(request: Request, transaction: Transaction) -> None:
    if transaction.spoilt:
        raise Refused(errno.ENOMEM)
    for domid, gained in transaction.gained.items():
        _check_count(request, transaction, domid, gained)
    xenstored = request.xenstored
    faults = xenstored.faults
    if faults is not None and faults.conflicts(request.connection.domid):
        raise Refused(errno.EAGAIN)
    if not xenstored.commit(transaction, request.cause):
        raise Refused(errno.EAGAIN)


def _check_count(request: Request, transaction: Transaction, domid: int, gained: int) -> None:
    xenstored = request.xenstored
    if not xenstored.domains.meet(domid):
        raise Refused(errno.ENOMEM)
    asked = transaction.made and not request.connection.caller.privileged
    nodes = xenstored.database.owned(domid, gained)
    if asked and domid != PRIVILEGED and nodes >= xenstored.quota.nodes:
        raise Refused(errno.ENOSPC)


# Domains


def introduce(request: Request) -> None:
    domid, gfn, port = _at_least(request.arguments, 3)
    if not leading(port):
        raise Refused(errno.EINVAL)
    request.xenstored.on_introduce(leading(domid), gfn, leading(port))
    request.xenstored.introduce(leading(domid))
    request.reply()


def release(request: Request) -> None:
    request.xenstored.release(_guest(request))
    request.reply()


def resume(request: Request) -> None:
    request.xenstored.resume(_guest(request))
    request.reply()


def is_domain_introduced(request: Request) -> None:
    domid = leading(request.only_argument)
    known = domid == DOMID_SELF or domid in request.xenstored.introduced
    request.reply(b"T\0" if known else b"F\0")


def get_domain_path(request: Request) -> None:
    request.reply(octets(home(leading(request.only_argument))) + b"\0")


def set_target(request: Request) -> None:
    domid, target = map(leading, _at_least(request.arguments, 2))
    if not {domid, target} <= request.xenstored.introduced.keys():
        raise Refused(errno.ENOENT)
    request.xenstored.targets[domid] = target
    request.reply()


def control(request: Request) -> None:
    """The commands of xenstore-control are each daemon's own; there are none here."""
    raise Refused(errno.EINVAL)


def _guest(request: Request) -> int:
    """The introduced guest the request is about."""
    domid = leading(request.only_argument)
    if domid == PRIVILEGED:
        raise Refused(errno.EINVAL)
    if domid not in request.xenstored.introduced:
        raise Refused(errno.ENOENT)
    return domid


def _exactly(arguments: list[str], count: int) -> list[str]:
    if len(arguments) != count:
        raise Refused(errno.EINVAL)
    return arguments


def _at_least(arguments: list[str], count: int) -> list[str]:
    return _exactly(arguments[:count], count)


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the table."""

    run: Callable[[Request], None]
    privileged: bool = False
    """For dom0 alone: EACCES for others."""
    transactional: bool = True
    """Whether the message's tx_id is looked at."""


OPERATIONS: dict[int, Operation] = {
    MessageType.CONTROL: Operation(control, privileged=True),
    MessageType.DIRECTORY: Operation(directory),
    MessageType.READ: Operation(read),
    MessageType.GET_PERMS: Operation(get_perms),
    MessageType.WATCH: Operation(watch, transactional=False),
    MessageType.UNWATCH: Operation(unwatch, transactional=False),
    MessageType.TRANSACTION_START: Operation(transaction_start),
    MessageType.TRANSACTION_END: Operation(transaction_end),
    MessageType.INTRODUCE: Operation(introduce, privileged=True),
    MessageType.RELEASE: Operation(release, privileged=True),
    MessageType.GET_DOMAIN_PATH: Operation(get_domain_path),
    MessageType.WRITE: Operation(write),
    MessageType.MKDIR: Operation(mkdir),
    MessageType.RM: Operation(rm),
    MessageType.SET_PERMS: Operation(set_perms),
    MessageType.IS_DOMAIN_INTRODUCED: Operation(is_domain_introduced, privileged=True),
    MessageType.RESUME: Operation(resume, privileged=True),
    MessageType.SET_TARGET: Operation(set_target, privileged=True),
    MessageType.RESET_WATCHES: Operation(reset_watches),
    MessageType.DIRECTORY_PART: Operation(directory_part),
}
"""What is not in here is answered with ENOSYS: among others the features and quotas of Xen 4.21."""
