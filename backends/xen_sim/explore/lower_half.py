"""A kernel's lower half by itself: a guest that waits for items, and dom0 that produces them.

For each of its ports dom0 counts up a word in a page that both see, and sends. The guest, told of a
port, looks at the word, and sleeps when it has not seen all of them. It is what a driver does, and
nothing else: so what a search finds here is the kernel's own mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from xen_sim.explore.pair import Page, pair
from xen_sim.explore.programs import Programs
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5


def lower_half(
    kernel: type[Kernel] = Solo5,
    *,
    ports: int = 1,
    sends: int = 2,
    rests: bool = False,
    delivery: Delivery = "vector",
    late: int = 0,
    seed: int = 0,
    name: str = "",
) -> Programs:
    """The engine for this kernel, with so many ports and so many sends for each; the producer lets
    others run behind each round if it `rests`. Upcalls may come up to `late` steps late. It goes by
    the kernel's name, or by `name`."""
    called = f"{kernel.__module__} {name}" if name else kernel.name
    return pair(
        name or f"the lower half of {kernel.name}",
        partial(_consume, sends=sends),
        partial(_produce, sends=sends, rests=rests),
        kernel=kernel,
        ports=ports,
        delivery=delivery,
        late=late,
        identity=f"lower half {called} {delivery} {ports} {sends} {rests}",
        seed=seed,
        reducible=True,
    )


def _consume(guest: PlainGuest, page: Page, ports: Sequence[int], *, sends: int) -> tuple[int, ...]:
    produced = page.words("items", len(ports))
    seen = dict.fromkeys(ports, 0)
    while any(count < sends for count in seen.values()):
        taken = guest.take()
        for port in taken:
            seen[port] = produced[ports.index(port)]
        if not taken:
            guest.sleep()
    return tuple(seen.values())


def _produce(
    guest: PlainGuest, page: Page, ports: Sequence[int], *, sends: int, rests: bool
) -> None:
    counts = page.words("items", len(ports))
    for number in range(1, sends + 1):
        for index, port in enumerate(ports):
            counts[index] = number
            guest.send(port)
        if rests:
            guest.xen.yield_()
