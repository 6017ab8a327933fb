"""Two plain guests that share a page, explored: the page's fields, and who spins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from xen_sim import Choice, Kernel, PlainGuest, Solo5, Tape
from xen_sim.explore.course import Following
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.pair import Page, pair
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import BOUNDED
from xen_sim.guests.linux_fifo import LinuxFifo


def nothing(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
    pass


def test_each_use_of_a_field_is_a_step_by_its_name() -> None:
    def count(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        page.prod += page.cons

    account = pair("it", count, nothing, fields={"prod": 3, "cons": 4}).tell(Following(()))
    steps = [moment.what for moment in account.moments if moment.actor == "guest"]
    assert steps == ["read prod", "read cons", "write prod"]


def test_both_see_what_one_of_them_wrote_and_what_was_there_to_begin_with() -> None:
    seen = []

    def write(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        page.prod += 1
        guest.send(ports[0])

    def read(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        guest.wait(ports[0])
        seen.append((page.prod, page.cons))

    assert pair("it", write, read, fields={"prod": 3, "cons": 4}).run(Following(())).finding is None
    assert seen == [(4, 4)]


@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_field_that_is_not_there_is_named(verb: str) -> None:
    def misspell(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        if verb == "read":
            assert page.pord
        page.pord = 1

    finding = pair("it", misspell, nothing, fields={"prod": 0}).run(Following(())).finding
    assert finding is not None
    assert "the page has no field 'pord'; it has: prod" in finding.said


def test_a_guest_that_spins_while_xen_holds_a_word_busy_lets_xen_go_on() -> None:
    """Both are on processors of their own: to let one spin for good is no schedule."""
    effort = Effort(seconds=None, strategy="preemptions", limit=2)
    verdict = explore(lower_half(LinuxFifo, ports=2, sends=1), effort)
    assert verdict.kind == BOUNDED, verdict


class Late(Tape):
    """dom0 sends as the guest is about to read for the first time; the upcall is so many steps
    late."""

    def __init__(self, steps: int) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._steps = steps
        self._sent = False

    def choose(self, choice: Choice) -> int:
        if choice.point == "guest: upcall":
            self.asked.append(choice.options)
            return self._steps
        if choice.point == "guest: read count" and not self._sent:
            self._sent = True
            return 1
        return 0


def reads_before_the_upcall(steps: int, *, before: Callable[[PlainGuest], None] | None) -> int:
    """How often a guest reads before its handler is entered; behind two reads it does this."""
    reads: list[int] = []
    entered: list[int] = []

    class Notes(Solo5):
        def upcall(self) -> None:
            entered.append(len(reads))
            super().upcall()

    def read(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        entered.clear()  # registering for upcalls gives one
        for number in range(6):
            if number == 2 and before is not None:
                before(guest)
            reads.append(page.count)

    def send(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        guest.send(ports[0])

    tape = Late(steps)
    assert pair("it", read, send, kernel=Notes, fields={"count": 0}, late=4).run(tape)
    assert tape.asked == [("guest", *(f"{number} steps late" for number in range(1, 5)))]
    return entered[0]


@pytest.mark.parametrize("steps", [0, 1, 3, 4])
def test_an_upcall_may_come_so_many_steps_late(steps: int) -> None:
    assert reads_before_the_upcall(steps, before=None) == steps


@pytest.mark.parametrize("leave", [lambda guest: guest.xen.yield_(), lambda guest: guest.cpu.hlt()])
def test_and_at_a_hypercall_and_at_hlt_it_comes_at_the_latest(
    leave: Callable[[PlainGuest], None],
) -> None:
    assert reads_before_the_upcall(4, before=leave) == 2


def test_what_a_guest_raises_itself_comes_at_once() -> None:
    def unmask(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        guest.xen.unmask(ports[0])
        assert page.count == 0

    def hold(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        guest.kernel.mask(ports[0])
        page.count = 0
        while not guest.kernel.platform.event_words().pending[0]:
            guest.xen.yield_()
        unmask(guest, page, ports)

    def send(guest: PlainGuest, page: Page, ports: Sequence[int]) -> None:
        guest.send(ports[0])

    tape = Late(4)
    assert pair("it", hold, send, fields={"count": 0}, late=4).run(tape).finding is None
    assert tape.asked == []


@pytest.mark.parametrize("kernel", [Solo5, LinuxFifo])
def test_the_shipped_lower_halves_stand_upcalls_that_come_late(kernel: type[Kernel]) -> None:
    effort = Effort(seconds=None, strategy="preemptions", limit=2)
    assert explore(lower_half(kernel, late=3), effort).kind == BOUNDED
