"""Two plain guests that share a page: the smallest program in which an event can be lost.

    def front(guest, page, ports):
        page.req_prod += 1
        guest.send(ports[0])

    def back(guest, page, ports):
        guest.wait(ports[0])
        always(page.req_prod == 1, "an event comes behind what it is about")

    engine = pair("a ring of one", front, back, fields={"req_prod": 0})

`guest` (domain 1) runs the first of the two, on the kernel that is explored, and dom0 the second,
on Solo5's. Their ports are connected before the run begins, and a run costs microseconds: so a
driver is searched as a kernel's lower half is. The page is as strongly ordered as Python is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from xen_sim.explore.conductor import BUDGET
from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5
from xen_sim.hardware.cpu import SteppedCPU
from xen_sim.hardware.memory import PAGE_SIZE, Before, Frame, Words

GUEST = 1
"""The domid of who is not dom0."""
WORD = 8
NO_FIELDS: Mapping[str, int] = {}


class Page:
    """The page, as one of the two sees it. Each field is a word of 64 bits, and each use of one a
    step."""

    def __init__(self, frame: Frame, before: Before | None, fields: Iterable[str]) -> None:
        own = self.__dict__
        own["_frame"], own["_before"] = frame, before
        own["_fields"] = {
            field: frame.view(field, PAGE_SIZE - WORD * number, WORD, "Q", before)
            for number, field in enumerate(fields, 1)
        }

    def words(self, field: str, count: int) -> Words:
        """So many words under one name, from the page's beginning."""
        frame: Frame = self.__dict__["_frame"]
        return frame.view(field, 0, WORD * count, "Q", self.__dict__["_before"])

    def __getattr__(self, field: str) -> int:
        return self._word(field)[0]

    def __setattr__(self, field: str, value: int) -> None:
        self._word(field)[0] = value

    def _word(self, field: str) -> Words:
        fields: dict[str, Words] = self.__dict__["_fields"]
        if field not in fields:
            known = ", ".join(fields) or "none"
            raise AttributeError(f"the page has no field {field!r}; it has: {known}")
        return fields[field]


Side = Callable[[PlainGuest, Page, Sequence[int]], object]
"""What one of the two runs: on itself, with the page, and with its ports in order."""


def pair(
    name: str,
    guest: Side,
    dom0: Side,
    *,
    kernel: type[Kernel] = Solo5,
    fields: Mapping[str, int] = NO_FIELDS,
    ports: int = 1,
    delivery: Delivery = "vector",
    late: int = 0,
    identity: str = "",
    seed: int = 0,
    budget: int = BUDGET,
    reducible: bool = False,
) -> Programs:
    """The engine for these two, connected by so many ports. `fields` are the page's, and what is in
    them to begin with. An upcall of the guest's may come up to `late` steps late. `identity` tells
    apart what is built differently under one name; `budget` is the steps of a run that is no
    livelock yet. Two that share nothing in Python besides are `reducible`."""
    body = partial(
        _run, sides=(guest, dom0), fields=fields, ports=ports, delivery=delivery, late=late
    )
    told = identity or f"pair {guest.__module__} {name} {kernel.name} {delivery} {ports}"
    if late:
        told += f" late {late}"
    return Programs(
        Program(name, told),
        body,
        kernel=kernel,
        seed=seed,
        budget=budget,
        reducible=reducible and not late,
    )


def _run(
    machine: ExploredMachine,
    *,
    sides: tuple[Side, Side],
    fields: Mapping[str, int],
    ports: int,
    delivery: Delivery,
    late: int,
) -> object:
    front, back = sides
    guest = machine.plain(
        "guest", lambda guest: front(guest, pages[0], ours), delivery=delivery
    ).guest
    dom0 = machine.plain("dom0", lambda dom0: back(dom0, pages[1], theirs), kernel=Solo5).guest
    assert isinstance(guest.cpu, SteppedCPU)
    guest.cpu.late = late
    ours = [guest.alloc_unbound(0) for _ in range(ports)]
    theirs = [dom0.bind_interdomain(GUEST, port) for port in ours]
    dom0.take()  # of binding itself there is an event
    dom0.fired.clear()
    frame = guest.platform.new_frame()
    begun = Page(frame, None, fields)
    for field, value in fields.items():
        setattr(begun, field, value)
    pages = [Page(frame, each.cpu.before, fields) for each in (guest, dom0)]
    return machine.run()
