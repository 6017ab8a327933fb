"""xenstored, simulated: pure, deterministic, without I/O.

    xenstored = Xenstored()
    toolstack.introduce_dom0(xenstored)
    toolstack.introduce(xenstored, 1, "guest")
    connection = xenstored.connect(1)
    connection.receive(request_bytes)
    reply_and_event_bytes = connection.take_output()

It does what Xen's own (C) xenstored does, down to the order of events, replies and listings.
"""

from xen_sim.xenstored.connection import Connection
from xen_sim.xenstored.quota import Quota
from xen_sim.xenstored.ring import RingServer
from xen_sim.xenstored.server import Xenstored

__all__ = ["Connection", "Quota", "RingServer", "Xenstored"]
