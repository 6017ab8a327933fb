"""Grants in a world where there are none left, and where Xen does not map or copy.

A table is full when others of the same kernel hold its entries; Linux's gntalloc has a limit of its
own. A mapping is refused (GNTST_general_error) where the owner took the page back, and for want of
a handle (maptrack); through /dev/xen/gntdev each of these is EINVAL. A copy is refused by segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EINVAL, ENOSPC

from activations.abi.grant_table import GntStatus
from activations.errors import XenError
from activations.lower import Segment
from xen_sim.faults.ask import ORDINARY
from xen_sim.xen.shared_pages import MappedPages, PageGrants, SharedPages

EXHAUSTED, REFUSED = "exhausted", "refused"


class FaultyGrants(PageGrants):
    """A domain's grants; what it asks of Xen may be refused."""

    def share(self, domid: int, pages: int, writable: bool) -> SharedPages:
        if self._happens(f"grant {pages} pages", EXHAUSTED):
            raise XenError(ENOSPC, "grant", f"{self.domain.name}: {pages} pages for {domid}")
        return super().share(domid, pages, writable)

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> MappedPages:
        if self._happens(f"map {len(refs)} pages", REFUSED):
            said = f"GNTST_general_error: references {list(refs)} of domain {domid}"
            raise XenError(EINVAL, "GNTTABOP_map_grant_ref", said)
        return super().map(domid, refs, writable)

    def _copy(self, segment: Segment) -> GntStatus:
        if self._happens("copy", REFUSED):
            return GntStatus.GENERAL_ERROR
        return super()._copy(segment)

    def _happens(self, what: str, fault: str) -> bool:
        """To the vCPU that asks; what is asked from outside of the run is never refused."""
        faults, running = self.domain.xen.faults, self.domain.xen.scheduler.current
        assert faults is not None
        return running is not None and faults.ask("grants", running.name, what, fault) != ORDINARY
