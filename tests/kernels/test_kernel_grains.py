"""One lower half, written in Python and in C: both explorers come to the same ends.

The scenario is the same: a guest looks at what a peer has produced, unmasks the port, and sleeps;
the peer produces an item and sends, a few times. An end is what stands in the shared page when
nobody goes on any more, and what the guest has seen. Xen's half, the processor and the kernel are
written twice, in two languages, and searched in two ways: state by state in C, run by run, with so
many preemptions, in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest
from support.lower_halves import DELIVERIES, looking, need_gcc

from activations import BlockedForever
from activations.loop import EventLoop
from xen_kernel import Limits, build
from xen_kernel.engine import Program as InC
from xen_sim.explore.course import ORDINARY, Course, Deviation, Following
from xen_sim.explore.engine import Program, Run
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.guests.freebsd import FreeBSD
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.linux_2l import Linux2L
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.guests.mini_os import MiniOS
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.solo5 import Solo5
from xen_sim.guests.solo5_2020 import with_faults

need_gcc()

pytestmark = [pytest.mark.usefixtures("kernel_cache"), pytest.mark.once]

End = tuple[tuple[tuple[int, int], ...], tuple[int, ...], tuple[int, ...]]
"""Whether each port is pending, and masked; upcall_pending, upcall_mask and the selector; and for
each port every look of the guest at its item, one behind the other, as digits to the base 8."""

GUEST = 1
PAIRS: dict[str, type[Kernel]] = {
    "solo5": Solo5,
    "mini_os": MiniOS,
    "linux_2l": Linux2L,
    "linux_fifo": LinuxFifo,
    "freebsd": FreeBSD,
}


class Ends:
    """The scenario in Python; notes how each run ends."""

    def __init__(self, kernel: type[Kernel], delivery: str, ports: int, sends: int) -> None:
        self.kernel, self.delivery = kernel, delivery
        self.ports, self.sends = ports, sends
        self.found: set[End] = set()

    def __call__(self, machine: ExploredMachine) -> None:
        looks = [0] * self.ports

        def consume(guest: PlainGuest) -> None:
            while True:
                taken = guest.kernel.demux()
                for port in taken:
                    item = ours.index(port)
                    looks[item] = looks[item] * 8 + produced[item]
                if taken:
                    guest.kernel.unmask(taken)
                else:
                    guest.kernel.block(None)

        def produce(guest: PlainGuest) -> None:
            for number in range(1, self.sends + 1):
                for index, port in enumerate(theirs):
                    counts[index] = number
                    guest.send(port)

        consumer = machine.plain("guest", consume, delivery=self.delivery).guest
        producer = machine.plain("dom0", produce, kernel=Solo5).guest
        ours = [consumer.alloc_unbound(0) for _ in range(self.ports)]
        theirs = [producer.bind_interdomain(GUEST, port) for port in ours]
        producer.take()
        page = consumer.platform.new_frame()
        produced = page.view("items", 0, 8 * self.ports, "Q", consumer.cpu.before)
        counts = page.view("items", 0, 8 * self.ports, "Q", producer.cpu.before)
        self._look_at_the_end(machine, consumer, ours, looks)
        machine.run()

    def _look_at_the_end(
        self, machine: ExploredMachine, guest: PlainGuest, ours: list[int], looks: list[int]
    ) -> None:
        """Where nobody goes on, and before anybody is ended for it."""
        ordinary, scheduler = machine.blocked, machine.xen.scheduler

        def blocked(error: BlockedForever, loops: Sequence[EventLoop]) -> BlockedForever:
            running, scheduler.current = scheduler.current, None  # our looks are no steps
            self.found.add(_end(machine, guest, ours, looks))
            scheduler.current = running
            return ordinary(error, loops)

        machine.blocked = blocked  # type: ignore[method-assign]


def _end(machine: ExploredMachine, guest: PlainGuest, ours: list[int], looks: list[int]) -> End:
    operations = machine.xen.domains[GUEST].event_channels.ops
    info = guest.platform.vcpu_info()
    return (
        tuple((int(operations.is_pending(p)), int(operations.is_masked(p))) for p in ours),
        (info.upcall_pending[0], info.upcall_mask[0], info.pending_sel[0]),
        tuple(looks),
    )


def every_run(engine: Programs, most: int) -> Iterator[Run]:
    """Every run with so many preemptions, each once."""
    courses: list[tuple[Course, int]] = [(ORDINARY, 0)]
    with engine.session():
        while courses:
            course, used = courses.pop()
            run = engine.run(Following(course))
            yield run
            for at in range(course[-1].at + 1 if course else 0, len(run.options)):
                cost = used + run.preemptions[at]
                if cost <= most:
                    for answer in range(1, run.options[at]):
                        courses.append(((*course, Deviation(at, answer)), cost))


def in_python(kernel: type[Kernel], delivery: str, ports: int, sends: int, most: int) -> set[End]:
    ends = Ends(kernel, delivery, ports, sends)
    program = Program("both", f"both {kernel.name} {delivery}")
    runs = sum(1 for _ in every_run(Programs(program, ends, kernel=kernel), most))
    assert runs > 1
    return ends.found


def in_c(name: str, fault: int, **options: Any) -> set[End]:
    scenario = looking(name, fault, **options)
    asked = InC(build.program(scenario), scenario)
    _, told = asked.search(Limits(), goes_on=True, ends=True)
    return {
        (
            tuple((pending, masked) for pending, masked in end["ports"].values()),
            tuple(end["vcpus"][0]),
            tuple(end["notes"][: scenario.ports]),
        )
        for end in told
    }


LOSE_NOTHING = {(((0, 0),), (0, 0, 0), looks) for looks in ((0o2,), (0o12,), (0o22,))}
"""With two events: one look for both, or one for each, of which the first may find both items."""


@pytest.mark.parametrize(("name", "delivery"), list(product(PAIRS, DELIVERIES)))
def test_a_right_lower_half_has_the_same_ends_in_both_languages(name: str, delivery: str) -> None:
    in_both = in_c(name, 0, delivery=delivery, sends=2)
    assert in_python(PAIRS[name], delivery, ports=1, sends=2, most=1) == in_both
    assert in_both == LOSE_NOTHING


@pytest.mark.parametrize("name", PAIRS)
def test_so_it_has_with_three_events(name: str) -> None:
    most = 3 if name == "solo5" else 2
    in_both = in_c(name, 0, sends=3)
    assert in_python(PAIRS[name], "vector", ports=1, sends=3, most=most) == in_both
    assert len(in_both) == 9


PREEMPTIONS = {1: 2, 2: 3, 3: 1, 4: 4}
"""With how many Python comes to every end of each fault of June 2020."""


@pytest.mark.parametrize(
    ("fault", "delivery"),
    [
        pytest.param(fault, delivery, marks=() if delivery == "vector" else pytest.mark.long)
        for fault, delivery in product(PREEMPTIONS, DELIVERIES)
    ],
)
def test_each_fault_of_june_2020_does_the_same_harm_in_both_languages(
    fault: int, delivery: str
) -> None:
    in_both = in_c("solo5", fault, delivery=delivery, sends=2)
    most = PREEMPTIONS[fault]
    assert in_python(with_faults(fault), delivery, ports=1, sends=2, most=most) == in_both
    asleep_with_an_event = {end for end in in_both if end[0] == ((1, 0),)}
    loses = fault in (1, 4) or (fault == 2 and delivery == "vector")
    assert bool(asleep_with_an_event) is loses


def test_a_fault_in_one_language_alone_is_found_out() -> None:
    right = in_c("solo5", 0, sends=2)
    assert in_python(with_faults(1), "vector", ports=1, sends=2, most=2) != right
