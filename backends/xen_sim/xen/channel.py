"""struct evtchn: one port of a domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.abi.event_channel import FIFO_DEFAULT_PRIORITY, Status

if TYPE_CHECKING:
    from xen_sim.xen.event_channel import EventChannels


class Channel:
    """One port's state. What a closed port leaves behind stays, as in Xen: `pending` and `queue`
    outlive it."""

    __slots__ = (
        "closed",
        "consumer",
        "number",
        "peer",
        "pending",
        "port",
        "priority",
        "queue",
        "remote_domid",
        "remote_port",
        "status",
        "vcpu",
    )

    def __init__(self, port: int) -> None:
        self.port: int = port
        self.status: Status = Status.CLOSED
        self.vcpu: int = 0
        """Which vCPU is told (`notify_vcpu_id`)."""
        self.remote_domid: int = 0
        """UNBOUND: who may bind; INTERDOMAIN: who has."""
        self.remote_port: int = 0
        self.peer: EventChannels | None = None
        """INTERDOMAIN: the other end's domain."""
        self.number: int = 0
        """VIRQ, PIRQ: which one."""
        self.consumer: Callable[[], None] | None = None
        """Xen itself listens at the other end (xenstored here), and this is what it does."""
        self.closed: Callable[[], None] | None = None
        """What it does when the port is closed."""
        self.priority: int = FIFO_DEFAULT_PRIORITY
        self.queue: tuple[int, int] = (0, 0)
        """FIFO: the vCPU and priority of the queue it was last put on (`fifo_lastq`)."""
        self.pending: bool = False
        """FIFO: an event came before there was an event word for it."""

    def __str__(self) -> str:
        match self.status:
            case Status.CLOSED:
                return "free"
            case Status.INTERDOMAIN:
                return f"interdomain, domain {self.remote_domid}, port {self.remote_port}"
            case Status.UNBOUND:
                return f"unbound, for domain {self.remote_domid}"
            case Status.VIRQ | Status.PIRQ:
                return f"{self.status.name.lower()} {self.number}"
            case other:
                return other.name.lower()

    @property
    def usable(self) -> bool:
        """Whether it stands for something: neither free nor reserved."""
        return self.status is not Status.CLOSED
