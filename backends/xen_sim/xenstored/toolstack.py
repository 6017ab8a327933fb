"""What a toolstack tells xenstored of a domain that comes and goes.

The nodes are those that libxl makes (tools/libs/light/libxl_create.c, libxl_dom.c), owned and
readable as there: a guest reads its home, and writes only where it is let.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from activations.abi.xenstore_paths import home
from activations.store import Access, Permission
from activations.store.wire import octets
from xen_sim.xenstored.database import Transaction
from xen_sim.xenstored.server import Xenstored
from xen_sim.xenstored.tree import PRIVILEGED, Tree

GUEST_READS = ("", "/cpu", "/memory", "/device", "/control")
"""Below the home: the guest may read (`n0`, `rN`)."""

GUEST_OWNS = (
    "/device/suspend/event-channel",
    "/control/shutdown",
    "/control/feature-poweroff",
    "/control/feature-reboot",
    "/control/feature-suspend",
    "/control/sysrq",
    "/data",
    "/drivers",
    "/feature",
    "/attr",
    "/error",
)
"""Below the home: the guest's own (`nN`)."""


@dataclass(frozen=True, slots=True)
class _Writer:
    tree: Tree
    transaction: Transaction

    def make(self, path: str, *permissions: Permission) -> None:
        self.write(path, "")
        self.tree.set_permissions(path, self.tree.permitted(permissions))

    def write(self, path: str, value: str | int) -> None:
        if node := self.tree.find(path, Access.WRITE):
            self.tree.write(path, node, octets(value))
        else:
            self.tree.create(path, octets(value))
        self.transaction.fire(path, exact=False)


def introduce(
    xenstored: Xenstored,
    domid: int,
    name: str,
    *,
    memory_kib: int = 65536,
    vcpus: int = 1,
    store_port: int = 0,
    store_gfn: int = 0,
    extra: Mapping[str, str | int] | None = None,
) -> None:
    """Make the home of a new guest, all at once, and introduce it.

    `store_port` and `store_gfn` are where its ring is. `extra` is further values below its home,
    which it may read: `{"device-model": "none"}`.
    """
    at, vm = home(domid), _vm(domid)
    values: dict[str, str | int] = {
        f"{at}/vm": vm,
        f"{at}/name": name,
        f"{at}/domid": domid,
        f"{at}/memory/static-max": memory_kib,
        f"{at}/memory/target": memory_kib,
        f"{at}/memory/videoram": 0,
        f"{at}/store/port": store_port,
        f"{at}/store/ring-ref": store_gfn,
        f"{at}/control/platform-feature-multiprocessor-suspend": 1,
        f"{at}/control/platform-feature-xs_reset_watches": 1,
        f"{vm}/uuid": _uuid(domid),
        f"{vm}/name": name,
        f"/libxl/{domid}/type": "pvh",
    }
    values |= {f"{at}/cpu/{cpu}/availability": "online" for cpu in range(vcpus)}
    values |= {f"{at}/{key}": value for key, value in (extra or {}).items()}

    toolstack = Permission(PRIVILEGED, Access.NONE)
    readable = (toolstack, Permission(domid, Access.READ))
    xenstored.create(domid)
    writer = _begin(xenstored)
    for path in (*(at + below for below in GUEST_READS), vm):
        writer.make(path, *readable)
    writer.make(f"/libxl/{domid}", toolstack)
    for below in GUEST_OWNS:
        writer.make(at + below, Permission(domid, Access.NONE))
    for path, value in values.items():
        writer.write(path, value)
    xenstored.commit(writer.transaction)
    xenstored.introduce(domid)


def introduce_dom0(xenstored: Xenstored) -> None:
    """What xen-init-dom0 writes at boot."""
    writer = _begin(xenstored)
    writer.write(f"{home(PRIVILEGED)}/domid", PRIVILEGED)
    writer.write(f"{home(PRIVILEGED)}/name", "Domain-0")
    xenstored.commit(writer.transaction)
    xenstored.serve()


def release(xenstored: Xenstored, domid: int) -> None:
    """Remove what `introduce` made, then release the domain."""
    writer = _begin(xenstored)
    for path in (home(domid), _vm(domid), f"/libxl/{domid}"):
        if writer.transaction.get(path):
            for gone, _ in writer.tree.remove(path):
                writer.transaction.fire(gone, exact=gone != path)
    xenstored.commit(writer.transaction)
    xenstored.destroy(domid)


def _begin(xenstored: Xenstored) -> _Writer:
    transaction = Transaction(xenstored.database)
    caller = xenstored.caller(PRIVILEGED)
    return _Writer(Tree(transaction, caller, xenstored.quota), transaction)


def _vm(domid: int) -> str:
    return f"/vm/{_uuid(domid)}"


def _uuid(domid: int) -> str:
    """Made from the domid: a simulation knows no chance but the tape's."""
    return f"00000000-0000-4000-8000-{domid:012x}"
