"""A xenstored that says no, or goes away.

Who asks is a guest: dom0 has no quota, and its connection is not a ring. A quota is the guest's as
a whole, so that another of its programs may have used it up; and xenstored stops listening to a
ring whose event channel it cannot use (XENSTORE_ERROR_COMM), its watches and transactions gone.
"""

from __future__ import annotations

from errno import E2BIG, ENOSPC
from typing import TYPE_CHECKING

from activations.abi.xs_wire import MessageType
from xen_sim.faults.ask import ORDINARY, Faults
from xen_sim.xenstored.tree import PRIVILEGED

if TYPE_CHECKING:
    from xen_sim.xen.hypervisor import Hypervisor

SPENT = {
    MessageType.WRITE: ENOSPC,
    MessageType.MKDIR: ENOSPC,
    MessageType.TRANSACTION_START: ENOSPC,
    MessageType.WATCH: E2BIG,
}
"""What takes of a quota, and what xenstored answers where nothing is left."""


class StoreFaults:
    """What `Xenstored.faults` is asked before each request."""

    def __init__(self, xen: Hypervisor, faults: Faults) -> None:
        self._xen = xen
        self._faults = faults

    def lost(self, domid: int, kind: MessageType) -> bool:
        """Whether the connection is gone before this request is served."""
        return domid != PRIVILEGED and self._happens(domid, f"XS_{kind.name}", "connection lost")

    def refused(self, domid: int, kind: MessageType) -> int:
        """The errno that the request is refused with; 0 for none."""
        if domid == PRIVILEGED or kind not in SPENT:
            return 0
        return SPENT[kind] if self._happens(domid, f"XS_{kind.name}", "quota") else 0

    def conflicts(self, domid: int) -> bool:
        """Whether somebody else's change is said to have come before this domain's commit."""
        return self._happens(domid, "transaction's end", "conflict")

    def _happens(self, domid: int, what: str, fault: str) -> bool:
        who = self._xen.domains[domid].vcpus[0].cpu.name
        return self._faults.ask("store", who, what, fault) != ORDINARY
