"""What is compared: some domains on one Xen, seen through the doors that a guest and Xen have.

A `World` is made twice for each program, once of Xen's own C (`xen.Xen`) and once of the simulator
(`simulator.Simulated`), and the same steps are done on both. Compared after every step, and equal
to the last byte:

- the step's result: 0, a port, or a negative errno, as the hypercall returns it;
- the argument's bytes as the hypercall left them, those that Xen leaves alone included, also where
  it was refused;
- each domain's shared_info page, all 4,096 bytes: pending, mask, and of every vCPU selector,
  upcall_pending, upcall_mask;
- each frame that Xen has mapped: control blocks and event array words;
- of every vCPU how often it was upcalled, and whether it sleeps (`signals`);
- by EVTCHNOP_status of its own domain, the state of every port that Xen has changed in this step.

And at the program's end, in some programs after every step: all frames, and all ports' states.

Guests are no part of a World: their stores go straight into `memory`, the same into both. So no
vCPU runs by itself: an interrupt that is due stays due until `acknowledge`, a vCPU that sleeps
sleeps until Xen wakes it, and no timer runs. A step of a vCPU that sleeps is preceded by `wake`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

PAGE_SIZE = 4096
PIRQS = 48
"""How many physical interrupts a domain has (Xen's `nr_pirqs`, which depends on the machine)."""
ASLEEP = 1
"""What `poll` and `block` return where the vCPU sleeps from now on."""

Buffer = bytearray | memoryview
Delivery = Literal["vector", "callback", "pv"]


class Domain(NamedTuple):
    """One domain of a World. Its domid is its place in the list."""

    vcpus: int = 1
    max_event_channels: int = 1023
    """The highest port number, as in the domain's configuration."""
    delivery: Delivery = "vector"
    """An HVM guest, every vCPU of which has registered upcall vector; or has HVM_PARAM_CALLBACK_IRQ
    of the type vector; or a PV guest."""


class World(Protocol):
    """Some domains on one Xen. Domain 0 is privileged, and the hardware domain; no other is.

    Nothing is bound when a World is made, and nothing pending; all memory is zero; interrupts are
    off on every vCPU. `domain` and `vcpu` are indices that exist, of a domain that is not
    destroyed. Whatever a guest may get wrong is in the bytes of an argument.
    """

    def __init__(self, domains: Sequence[Domain], frames: int) -> None: ...

    @property
    def signals(self) -> Sequence[int]:
        """Of every vCPU, in the order of the domains, three numbers that the World keeps up to
        date: how often it was upcalled, that is, how often Xen set its evtchn_upcall_pending where
        it was clear and had the interrupt raised; how often Xen itself consumed an event in its
        name (`listen`); and 1 while it sleeps in `poll` or `block`, else 0.

        An `array.array("I")`, or another buffer of unsigned 32-bit integers that stays where it
        is."""
        ...

    def memory(self, domain: int) -> Sequence[Buffer]:
        """Its shared_info page, then as many guest frames as were asked for: the frames that are 0,
        1 and so on to the guest (gfn), in init_control and expand_array too. Others it has not.
        Writable buffers of 4,096 bytes that stay what they are for the domain's life."""
        ...

    # Hypercalls of a guest

    def event_channel_op(self, domain: int, vcpu: int, command: int, argument: bytearray) -> int:
        """Hypercall 32: 0 or a negative errno. `argument` holds the bytes that can be read at the
        address that the guest gave: less than the structure has is EFAULT. Its length stays."""
        ...

    def poll(self, domain: int, vcpu: int, ports: Sequence[int]) -> int:
        """SCHEDOP_poll without a timeout: 0, a negative errno, or ASLEEP."""
        ...

    def block(self, domain: int, vcpu: int) -> int:
        """SCHEDOP_block: 0, or ASLEEP."""
        ...

    # A vCPU's processor

    def interrupts(self, domain: int, vcpu: int, enabled: bool) -> None:
        """The interrupt flag of an HVM guest, of which poll and block take notice. Nothing is
        delivered by it. A PV guest has evtchn_upcall_mask instead, and that is memory."""
        ...

    def acknowledge(self, domain: int, vcpu: int) -> None:
        """The upcall's handler has run, to its EOI: by the upcall vector, neither IRR nor ISR have
        the bit any more. With other deliveries, nothing: it is evtchn_upcall_pending that counts,
        and that is memory."""
        ...

    def wake(self, domain: int, vcpu: int) -> None:
        """The timeout of its poll came: it sleeps no longer. Nothing where it did not."""
        ...

    # Xen's own business

    def raise_virq(self, domain: int, vcpu: int, virq: int) -> None:
        """Xen raises a VIRQ: 0, 1, 7 and 13 for this vCPU, any other for this domain."""
        ...

    def raise_global_virq(self, virq: int) -> None:
        """Xen raises a VIRQ for whoever handles it: domain 0, unless `handle_virq` said another."""
        ...

    def handle_virq(self, domain: int, virq: int) -> int:
        """XEN_DOMCTL_set_virq_handler: 0, or EINVAL for one that is not global."""
        ...

    def raise_pirq(self, domain: int, pirq: int) -> None:
        """A physical interrupt (below PIRQS) of an HVM guest."""
        ...

    def listen(self, domain: int, vcpu: int, remote: int) -> int:
        """A port of this domain that Xen itself consumes (as it does for ioreqs), unbound, for the
        domain with the domid `remote`: the port, or a negative errno. What the peer sends to it is
        counted for this vCPU in `signals`, and has no other effect."""
        ...

    def notify(self, domain: int, port: int) -> None:
        """Xen sends an event through a port that it listens at."""
        ...

    def silence(self, domain: int, port: int) -> None:
        """Xen closes a port that it listens at."""
        ...

    def pause(self, domain: int) -> None:
        """XEN_DOMCTL_pausedomain: others may reset its event channels now. Pauses are counted."""
        ...

    def unpause(self, domain: int) -> None:
        """XEN_DOMCTL_unpausedomain. Nothing where it was not paused."""
        ...

    def suspend(self, domain: int) -> None:
        """The domain is saved and restored, keeping its domid: its ports are closed and it is on
        the two-level ABI, shared_info is all zero, no interrupt is due and no vCPU sleeps. Its
        frames and interrupt flags are as they were; who polled was woken before."""
        ...

    def destroy(self, domain: int) -> None:
        """The domain is gone, its ports are closed, and its domid is nobody's (ESRCH)."""
        ...
