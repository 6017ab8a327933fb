"""How a simulated domain reaches xenstored: a ring page, and a port at whose other end it listens.

xenstored acts within the event that tells it to, as Xen itself would. It is not a domain here:
there is nothing to schedule, and a simulation of one domain has a store too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activations.abi.grant_table import PAGE_SIZE
from xen_sim.xenstored import RingServer

if TYPE_CHECKING:
    from xen_sim.xen.domain import XenDomain


class StoreLink:
    """One connection, from the port's binding to its closing."""

    def __init__(self, domain: XenDomain) -> None:
        memory = memoryview(bytearray(PAGE_SIZE))
        self.page: memoryview = domain.seen(memory, "store")
        """The page as the guest sees it."""
        channels = domain.event_channels
        connection = domain.xen.xenstored.connect(domain.domid)
        server = RingServer(memory, connection, lambda: channels.raise_port(self.port))
        self.port: int = channels.listen(server.kick, connection.close)
