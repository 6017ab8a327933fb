"""Two plain guests that share a page, explored: the page's fields, and who spins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xen_sim import PlainGuest
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
