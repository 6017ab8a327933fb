"""A kernel's lower half by itself: a guest that waits for items, and dom0 that produces them.

For each of its ports dom0 counts up a word in a page that both see, and sends. The guest, told of a
port, looks at the word, and sleeps when it has not seen all of them. It is what a driver does, and
nothing else: so what a search finds here is the kernel's own mistake.
"""

from __future__ import annotations

from functools import partial

from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5

GUEST = 1
"""The consumer's domid."""


def lower_half(
    kernel: type[Kernel] = Solo5,
    *,
    ports: int = 1,
    sends: int = 2,
    rests: bool = False,
    delivery: Delivery = "vector",
    seed: int = 0,
) -> Programs:
    """The engine for this kernel, with so many ports and so many sends for each; the producer lets
    others run behind each round if it `rests`."""
    body = partial(_run, ports=ports, sends=sends, rests=rests, delivery=delivery)
    name = f"the lower half of {kernel.name}"
    identity = f"lower half {kernel.name} {delivery} {ports} {sends} {rests}"
    return Programs(Program(name, identity), body, kernel=kernel, seed=seed)


def _run(
    machine: ExploredMachine, *, ports: int, sends: int, rests: bool, delivery: Delivery
) -> object:
    def consume(guest: PlainGuest) -> tuple[int, ...]:
        seen = dict.fromkeys(ours, 0)
        while any(count < sends for count in seen.values()):
            taken = guest.take()
            for port in taken:
                seen[port] = produced[ours.index(port)]
            if not taken:
                guest.sleep()
        return tuple(seen.values())

    def produce(guest: PlainGuest) -> None:
        for number in range(1, sends + 1):
            for index, port in enumerate(theirs):
                counts[index] = number
                guest.send(port)
            if rests:
                guest.xen.yield_()

    consumer = machine.plain("guest", consume, delivery=delivery).guest
    producer = machine.plain("dom0", produce, kernel=Solo5).guest
    ours = [consumer.alloc_unbound(0) for _ in range(ports)]
    theirs = [producer.bind_interdomain(GUEST, port) for port in ours]
    producer.take()
    page = consumer.platform.new_frame()
    size = 8 * ports
    produced = page.view("items", 0, size, "Q", consumer.cpu.before)
    counts = page.view("items", 0, size, "Q", producer.cpu.before)
    return machine.run()
