"""The FIFO ABI."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op

from ..world import ASLEEP
from .guest import BUCKET, JUNK, LINKED, MASKED, PENDING, SELF, Guest, fact


@fact()
def the_two_level_abi_has_no_priorities_and_no_array(d0: Guest) -> None:
    port = d0.ipi()
    for asked in ((port, 7), (port, 16), (0, 0), (9, 99)):
        assert d0.op(Op.SET_PRIORITY, *asked) == -ENOSYS
    assert d0.op(Op.SET_PRIORITY, BUCKET, 7) == -EINVAL
    assert d0.op(Op.EXPAND_ARRAY, 0) == -EOPNOTSUPP


@fact()
def init_control_is_refused_for_what_is_wrong_and_changes_nothing(d0: Guest) -> None:
    for asked, errno in (
        ((0, 0, 2), ENOENT),
        ((0, 4025, 2), ENOENT),
        ((0, 4028, 0), EINVAL),
        ((0, 4032, 0), EINVAL),
        ((0, 4, 0), EINVAL),
        ((4, 0, 0), EINVAL),
        ((2**40, 0, 0), EINVAL),
    ):
        assert d0.op(Op.INIT_CONTROL, *asked, JUNK, JUNK) == -errno
    assert d0.op(Op.EXPAND_ARRAY, 0) == -EOPNOTSUPP
    assert d0.op(Op.INIT_CONTROL, 0, 4024, 1, JUNK, JUNK) == (0, 4024, 1, JUNK & ~0xFF | 17, JUNK)
    assert d0.op(Op.INIT_CONTROL, 1, 0, 1, JUNK, JUNK) == -EINVAL  # it has one
    assert d0.op(Op.INIT_CONTROL, 1, 0, 0, 0, 0) == (1, 0, 0, 17, 0)


@fact()
def a_priority_is_looked_at_after_its_port(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    assert d0.op(Op.SET_PRIORITY, port, 15) == (port, 15)
    assert d0.op(Op.SET_PRIORITY, port, 16) == -EINVAL
    assert d0.op(Op.SET_PRIORITY, 0, 16) == d0.op(Op.SET_PRIORITY, 9, 7) == -EACCES
    assert d0.op(Op.SET_PRIORITY, 99, 7) == -EINVAL


@fact(frames=140)
def an_event_array_has_128_pages(d0: Guest) -> None:
    d0.become_fifo(pages=0)
    assert d0.op(Op.EXPAND_ARRAY, 140) == -EINVAL
    assert all(d0.op(Op.EXPAND_ARRAY, page) == (page,) for page in range(1, 129))
    assert d0.op(Op.EXPAND_ARRAY, 129) == d0.op(Op.EXPAND_ARRAY, 2**40) == -ENOSPC


@fact()
def events_queue_behind_each_other_by_priority(d0: Guest) -> None:
    d0.become_fifo()
    one, two, urgent = d0.ipi(), d0.ipi(), d0.ipi()
    d0.op(Op.SET_PRIORITY, urgent, 3)
    for port in (one, two, urgent, one):
        d0.send(port)
    assert (d0.ready(), d0.head(7), d0.head(3)) == (1 << 7 | 1 << 3, one, urgent)
    assert d0.word(one) == PENDING | LINKED | two
    assert d0.word(two) == d0.word(urgent) == PENDING | LINKED
    assert d0.told() == (1, 0)
    assert (d0.upcalls(), d0.pending) == (1, 0)


@fact()
def a_masked_event_is_pending_and_not_linked_until_it_is_unmasked(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    d0.set_word(port, MASKED)
    d0.send(port)
    assert (d0.word(port), d0.ready()) == (MASKED | PENDING, 0)
    assert d0.op(Op.UNMASK, port) == (port,)
    assert (d0.word(port), d0.ready(), d0.head()) == (PENDING | LINKED, 1 << 7, port)


@fact()
def unmask_links_what_is_pending_masked_or_not(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    d0.set_word(port, PENDING)
    assert d0.op(Op.UNMASK, port) == (port,)
    assert d0.word(port) == PENDING | LINKED


@fact()
def close_leaves_a_port_on_its_queue_and_it_is_not_handed_out(d0: Guest) -> None:
    d0.become_fifo()
    one, two = d0.ipi(), d0.ipi()
    d0.send(one)
    d0.send(two)
    d0.op(Op.CLOSE, one)
    assert d0.word(one) == LINKED | two
    assert d0.ipi() == 3
    d0.set_word(one, 0)
    assert d0.ipi() == one


@fact()
def a_word_that_a_guest_links_itself_keeps_its_port_from_being_bound(d0: Guest) -> None:
    d0.become_fifo()
    d0.set_word(1, LINKED)
    assert d0.ipi() == 2


@fact()
def a_port_that_is_bound_anew_has_the_default_priority(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    d0.op(Op.SET_PRIORITY, port, 0)
    d0.op(Op.CLOSE, port)
    assert d0.ipi() == port
    d0.send(port)
    assert (d0.ready(), d0.head(7)) == (1 << 7, port)


@fact()
def what_was_pending_on_two_levels_comes_when_its_word_does(d0: Guest) -> None:
    one, two = d0.ipi(), d0.ipi()
    d0.send(two)
    d0.store(abi.EVTCHN_PENDING, 1 << two | 1 << 9)  # 9 is free, and is told all the same
    d0.become_fifo(pages=0)
    assert (d0.ready(), d0.pending) == (0, 1 << two | 1 << 9)
    assert d0.op(Op.EXPAND_ARRAY, 1) == (1,)
    assert (d0.word(one), d0.word(two), d0.word(9)) == (0, PENDING | LINKED | 9, PENDING | LINKED)
    assert (d0.ready(), d0.head()) == (1 << 7, two)


@fact()
def what_came_to_a_port_without_a_word_comes_when_there_is_one_though_it_was_closed(
    d0: Guest,
) -> None:
    d0.become_fifo(pages=0)
    port = d0.ipi()
    d0.send(port)
    d0.op(Op.CLOSE, port)
    d0.op(Op.EXPAND_ARRAY, 1)
    assert (d0.word(port), d0.head()) == (PENDING | LINKED, port)


@fact()
def what_came_to_a_port_without_a_word_is_not_seen_by_a_poll(d0: Guest) -> None:
    d0.become_fifo(pages=0)
    port = d0.ipi()
    d0.send(port)
    assert d0.poll(port) == ASLEEP


@fact()
def an_event_for_a_vcpu_without_a_control_block_is_dropped(d0: Guest) -> None:
    d0.become_fifo(vcpus=1)
    port = d0.ipi(vcpu=1)
    assert d0.send(port) == (port,)
    assert (d0.word(port), d0.told(1)) == (0, (0, 0))


@fact()
def a_port_that_moved_is_linked_where_it_is_told_next(d0: Guest) -> None:
    d0.become_fifo()
    theirs = d0.unbound(0)
    ours = d0.bind(SELF, theirs)
    d0.send(theirs)
    assert d0.head() == ours
    d0.op(Op.BIND_VCPU, ours, 1)
    d0.send(theirs)
    assert (d0.ready(1), d0.word(ours)) == (0, PENDING | LINKED)
    d0.set_word(ours, 0)
    d0.send(theirs)
    assert (d0.ready(1), d0.head(vcpu=1)) == (1 << 7, ours)


@fact()
def a_tail_that_is_no_longer_linked_makes_its_queue_empty(d0: Guest) -> None:
    d0.become_fifo()
    one, two = d0.ipi(), d0.ipi()
    d0.send(one)
    d0.set_word(one, 0)
    d0.send(two)
    assert (d0.head(), d0.word(one), d0.word(two)) == (two, 0, PENDING | LINKED)


@fact()
def a_queue_that_is_ready_already_raises_no_upcall(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    d0.store(0, 1 << 7, 4, page=1)
    d0.send(port)
    assert (d0.head(), d0.told()) == (port, (0, 0))


@fact()
def a_link_keeps_the_flags_of_the_tail_but_busy(d0: Guest) -> None:
    d0.become_fifo()
    one, two = d0.ipi(), d0.ipi()
    d0.send(one)
    d0.set_word(one, LINKED | MASKED | 1 << 28 | 999)
    d0.send(two)
    assert d0.word(one) == LINKED | MASKED | two


@fact()
def a_masked_fifo_event_ends_a_poll(d0: Guest) -> None:
    d0.become_fifo()
    port = d0.ipi()
    d0.set_word(port, MASKED)
    assert d0.poll(port) == ASLEEP
    d0.op(Op.SEND, port, vcpu=1)
    assert not d0.asleep()


@fact()
def reset_goes_back_to_two_levels_and_gives_the_pages_back(d0: Guest) -> None:
    d0.become_fifo()
    d0.send(d0.ipi())
    assert d0.op(Op.RESET, SELF) == (SELF,)
    assert d0.op(Op.EXPAND_ARRAY, 1) == -EOPNOTSUPP
    assert d0.word(1) == LINKED
    port = d0.ipi()
    d0.send(port)
    assert (port, d0.pending) == (1, 1 << 1)
    d0.become_fifo()


@fact()
def a_guest_on_fifo_sends_to_one_on_two_levels(d0: Guest, d1: Guest) -> None:
    d0.become_fifo()
    theirs = d1.unbound(0)
    ours = d0.bind(1, theirs)
    assert d0.word(ours) == PENDING | LINKED
    d0.send(ours)
    d1.send(theirs)
    assert (d0.pending, d1.pending) == (0, 1 << theirs)
