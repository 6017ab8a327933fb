"""A domain's event channels: binding ports, and owning them until they are closed.

The table of ports by number is what the idle step looks fired numbers up in. A number that is
not in it is ignored: the timer's, or one whose port was closed with a delivery still queued.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING
from weakref import ReferenceType

from activations.errors import GenerationEnded
from activations.port import Port
from activations.unsigned import domain, unsigned

if TYPE_CHECKING:
    from activations.lower import LowerHalf


class Events:
    """`xen.events`. Every operation that Xen can refuse raises `XenError`; what is not a whole
    number where one is taken is a `TypeError`, and one that Xen has no room for a `ValueError`."""

    def __init__(self, lower: LowerHalf, loop: ReferenceType[AbstractEventLoop]) -> None:
        self.lower = lower
        self.loop = loop
        """Of those who wait: a reference, since it is the loop that has the ports."""
        self.ports: dict[int, Port] = {}
        """The open ports by local number."""
        self.port_class = Port
        """What is made of a number: where somebody looks on, ports that keep more."""

    def alloc_unbound(self, remote_domid: int) -> Port:
        """A new port that `remote_domid` may bind to (EVTCHNOP_alloc_unbound)."""
        number = self.lower.alloc_unbound(domain(remote_domid))
        return self._own(self.port_class(self, number, f"domain {remote_domid}"))

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> Port:
        """A new port connected to one that another domain allocated for this one
        (EVTCHNOP_bind_interdomain). Xen sets it pending once: the first wait returns at once."""
        far = unsigned("port", remote_port)
        number = self.lower.bind_interdomain(domain(remote_domid), far)
        remote = f"domain {remote_domid}, port {remote_port}"
        return self._own(self.port_class(self, number, remote))

    def bind_virq(self, virq: int) -> Port:
        """A new port on which Xen raises this virtual interrupt (EVTCHNOP_bind_virq)."""
        number = self.lower.bind_virq(unsigned("virq", virq))
        return self._own(self.port_class(self, number, f"virq {virq}"))

    def _adopt(self, number: int, remote: str) -> Port:
        """A port that is bound already, as the toolstack's for xenstore and the console."""
        return self._own(self.port_class(self, number, remote))

    def close(self, port: Port) -> None:
        """Unbind a port, then wake its waiters, which find the number free."""
        del self.ports[port.number]
        try:
            self.lower.close_port(port.number)
        finally:
            port._finish()

    def _new_generation(self) -> None:
        """The domain was suspended and resumed: Xen has closed every port. Waiters fail with
        `GenerationEnded`, and bind again."""
        ended, self.ports = dict(self.ports), self.ports
        self.ports.clear()
        for port in ended.values():
            port._finish(
                GenerationEnded(f"port {port.number} was lost when the domain was suspended")
            )

    def _own(self, port: Port) -> Port:
        self.ports[port.number] = port
        return port
