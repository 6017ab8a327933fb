"""Arguments, the table of ports, and what a port is bound to."""

from __future__ import annotations

from errno import EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, ESRCH

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op

from ..world import PIRQS, Domain
from .guest import (
    BUCKET,
    CLOSED,
    CONSOLE,
    DOM_EXC,
    INTERDOMAIN,
    IPI,
    JUNK,
    PIRQ,
    SELF,
    TIMER,
    UNBOUND,
    VIRQ,
    Answer,
    Guest,
    fact,
    last,
)

# Arguments


@fact()
def an_unknown_command_is_enosys_whatever_its_argument(d0: Guest) -> None:
    for command in (15, 100, 2**31 - 1, 2**32 - 1):
        assert d0.raw(command, bytearray()) == -ENOSYS


@fact()
def an_argument_that_cannot_be_read_is_efault_and_nothing_is_done(d0: Guest) -> None:
    for command in range(15):
        assert d0.raw(command, bytearray(1)) == -EFAULT
    assert d0.status(1) == (CLOSED, 0, JUNK, JUNK)


@fact()
def bytes_behind_the_structure_are_left_alone(d0: Guest) -> None:
    argument = bytearray(abi.BIND_IPI.pack(0, JUNK) + b"\x5a" * 8)
    assert d0.raw(Op.BIND_IPI, argument) == 0
    assert argument == abi.BIND_IPI.pack(0, 1) + b"\x5a" * 8


@fact()
def padding_is_left_as_it_was(d0: Guest) -> None:
    port = d0.unbound(0)
    assert d0.op(Op.BIND_INTERDOMAIN, SELF, 0xABCD, port, JUNK) == (SELF, 0xABCD, port, 2)
    assert d0.op(Op.INIT_CONTROL, 0, 0, 0, 0xABCDEF00, JUNK) == (0, 0, 0, 0xABCDEF11, JUNK)


# The table of ports


@fact()
def ports_are_handed_out_lowest_first_from_one(d0: Guest) -> None:
    assert [d0.ipi() for _ in range(4)] == [1, 2, 3, 4]
    for port in (3, 2):
        d0.op(Op.CLOSE, port)
    assert [d0.ipi() for _ in range(3)] == [2, 3, 5]


@fact()
def the_table_begins_with_64_ports_and_grows_by_64(d0: Guest) -> None:
    for end in (BUCKET, 2 * BUCKET):
        assert d0.status(end - 1) == (CLOSED, 0, JUNK, JUNK)
        for command in (Op.UNMASK, Op.CLOSE, Op.SEND):
            assert d0.op(command, end) == -EINVAL
        assert d0.status(end) == d0.op(Op.BIND_VCPU, end, 0) == -EINVAL
        assert d0.op(Op.UNMASK, end - 1) == (end - 1,)
        while d0.ipi() < end:
            assert d0.op(Op.UNMASK, end + BUCKET) == -EINVAL


@fact()
def a_bind_that_is_refused_grows_the_table_all_the_same(d0: Guest, d1: Guest) -> None:
    for guest in (d0, d1):
        while guest.ipi() < BUCKET - 1:
            pass
    assert d0.op(Op.BIND_INTERDOMAIN, SELF, 0, 5, JUNK) == -EINVAL
    assert d0.status(BUCKET) == (CLOSED, 0, JUNK, JUNK)
    assert d1.op(Op.ALLOC_UNBOUND, 0, 1, JUNK) == -EPERM  # of d0's, which has room
    assert d1.status(BUCKET) == -EINVAL


@fact(Domain(max_event_channels=5))
def a_limit_bounds_what_is_bound_and_not_the_table(d0: Guest) -> None:
    assert [d0.ipi() for _ in range(5)] == [1, 2, 3, 4, 5]
    assert d0.op(Op.BIND_IPI, 0, JUNK) == -ENOSPC
    assert d0.op(Op.UNMASK, 7) == (7,)
    assert d0.status(7) == (CLOSED, 0, JUNK, JUNK)


@fact(Domain(), Domain(max_event_channels=1))
def a_full_table_comes_before_what_is_wrong_otherwise(d0: Guest, d1: Guest) -> None:
    assert d1.ipi() == 1
    assert d1.op(Op.BIND_INTERDOMAIN, 0, 0, 5, JUNK) == -ENOSPC
    assert d1.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK) == -ENOSPC
    assert d1.op(Op.BIND_PIRQ, 0, 0, JUNK) == -ENOSPC
    assert d1.op(Op.ALLOC_UNBOUND, SELF, 0, JUNK) == -ENOSPC
    assert d1.op(Op.BIND_INTERDOMAIN, 7, 0, 5, JUNK) == -ESRCH
    assert d1.op(Op.BIND_IPI, 7, JUNK) == -ENOENT
    assert d1.op(Op.BIND_VIRQ, 24, 0, JUNK) == -EINVAL
    assert d1.op(Op.BIND_PIRQ, PIRQS, 0, JUNK) == -EINVAL


@fact(Domain(), Domain(max_event_channels=1), Domain())
def a_full_table_comes_before_permission(d0: Guest, d1: Guest, d2: Guest) -> None:
    assert d2.op(Op.ALLOC_UNBOUND, 1, 2, JUNK) == -EPERM
    assert d1.ipi() == 1
    assert d2.op(Op.ALLOC_UNBOUND, 1, 2, JUNK) == -ENOSPC
    assert d0.op(Op.ALLOC_UNBOUND, 1, 2, JUNK) == -ENOSPC


@fact(Domain(max_event_channels=1))
def what_is_bound_already_comes_before_a_full_table(d0: Guest) -> None:
    assert d0.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK) == (CONSOLE, 0, 1)
    assert d0.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK) == -EEXIST
    assert d0.op(Op.BIND_VIRQ, DOM_EXC, 0, JUNK) == -ENOSPC


@fact(Domain(max_event_channels=131071))
def the_two_level_abi_has_4096_ports_whatever_the_limit(d0: Guest) -> None:
    while d0.ipi() < abi.MAX_PORTS_2L - 1:
        pass
    assert d0.op(Op.BIND_IPI, 0, JUNK) == -ENOSPC
    d0.become_fifo(vcpus=1)
    assert d0.ipi() == abi.MAX_PORTS_2L


# Interdomain


@fact()
def a_new_interdomain_port_is_pending_once_and_its_peer_is_not(d0: Guest, d1: Guest) -> None:
    port = d0.unbound(1)
    assert d1.bind(0, port) == 1
    assert (d0.pending, d1.pending) == (0, 1 << 1)
    assert d1.told() == (1, 1)
    assert d1.upcalls() == 1


@fact()
def only_the_domain_it_waits_for_binds_a_port(d0: Guest, d1: Guest, d2: Guest) -> None:
    port = d1.unbound(2)
    assert d0.op(Op.BIND_INTERDOMAIN, 1, 0, port, JUNK) == -EINVAL
    assert d2.bind(1, port) == 1
    assert d2.op(Op.BIND_INTERDOMAIN, 1, 0, port, JUNK) == -EINVAL


@fact()
def self_as_remote_is_the_caller_also_where_it_allocates_for_another(d0: Guest, d1: Guest) -> None:
    assert d0.op(Op.ALLOC_UNBOUND, 1, SELF, JUNK) == (1, SELF, 1)
    assert d1.status(1) == (UNBOUND, 0, JUNK & 0xFFFF_0000, JUNK)


@fact()
def a_domain_that_there_is_not_may_be_waited_for_and_not_bound_to(d0: Guest) -> None:
    assert d0.unbound(9) == 1
    assert d0.op(Op.BIND_INTERDOMAIN, 9, 0, 1, JUNK) == -ESRCH
    assert d0.op(Op.ALLOC_UNBOUND, 9, 0, JUNK) == -ESRCH
    assert d0.op(Op.ALLOC_UNBOUND, 0x7FF1, 0, JUNK) == -ESRCH


@fact()
def a_peer_that_is_closed_leaves_a_port_unbound_for_itself(d0: Guest, d1: Guest) -> None:
    d0.op(Op.BIND_IPI, 0, JUNK)
    theirs = d0.unbound(1)
    ours = d1.bind(0, theirs)
    assert d0.op(Op.BIND_VCPU, theirs, 1) == (theirs, 1)
    d1.op(Op.CLOSE, ours)
    assert d0.status(theirs) == (UNBOUND, 1, JUNK & 0xFFFF_0000 | 1, JUNK)
    assert d0.send(theirs) == (theirs,)
    assert d1.bind(0, theirs) == ours


@fact()
def a_domain_may_be_its_own_peer(d0: Guest) -> None:
    one = d0.unbound(0)
    other = d0.bind(SELF, one)
    d0.store(abi.EVTCHN_PENDING, 0)
    assert d0.send(other) == (other,)
    assert d0.pending == 1 << one
    d0.op(Op.CLOSE, one)
    assert d0.status(other) == (UNBOUND, 0, JUNK & 0xFFFF_0000, JUNK)


@fact()
def a_send_is_refused_for_ports_that_nobody_is_at_the_other_end_of(d0: Guest) -> None:
    virq = last(d0.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK))
    pirq = last(d0.op(Op.BIND_PIRQ, 0, 0, JUNK))
    for port in (0, virq, pirq, 9):
        assert d0.send(port) == -EINVAL


@fact()
def close_clears_pending_and_leaves_the_mask_and_the_selector(d0: Guest) -> None:
    port = d0.ipi()
    d0.send(port)
    d0.mask_all()
    d0.op(Op.CLOSE, port)
    assert d0.pending == 0
    assert d0.mask == 2**64 - 1
    assert d0.told() == (1, 1)
    assert d0.op(Op.CLOSE, port) == d0.op(Op.CLOSE, 0) == -EINVAL


# VIRQs, PIRQs, vCPUs


@fact()
def every_virq_but_four_is_global(d0: Guest) -> None:
    for virq in range(24):
        expected: Answer = -EINVAL
        if virq in (0, 1, 7, 13):
            expected = (virq, 1, {0: 1, 1: 2, 7: 3, 13: 4}[virq])
        assert d0.op(Op.BIND_VIRQ, virq, 1, JUNK) == expected
    assert d0.op(Op.BIND_VIRQ, 5, 2, JUNK) == -EINVAL
    assert d0.op(Op.BIND_VIRQ, TIMER, 2, JUNK) == -ENOENT
    assert d0.op(Op.BIND_VIRQ, 24, 2, JUNK) == -EINVAL
    assert d0.op(Op.BIND_VIRQ, 2**31, 0, JUNK) == -EINVAL


@fact()
def a_domain_that_is_not_privileged_binds_every_virq(d0: Guest, d1: Guest) -> None:
    assert [d1.op(Op.BIND_VIRQ, virq, 0, JUNK) for virq in range(24)] == [
        (virq, 0, virq + 1) for virq in range(24)
    ]


@fact()
def each_vcpu_has_its_own_timer(d0: Guest) -> None:
    assert d0.op(Op.BIND_VIRQ, TIMER, 0, JUNK) == (TIMER, 0, 1)
    assert d0.op(Op.BIND_VIRQ, TIMER, 1, JUNK) == (TIMER, 1, 2)
    assert d0.op(Op.BIND_VIRQ, TIMER, 1, JUNK) == -EEXIST
    d0.virq(TIMER, 1)
    assert d0.pending == 1 << 2
    assert (d0.told(0), d0.told(1)) == ((0, 0), (1, 1))


@fact()
def a_global_virq_moves_to_another_vcpu_and_a_vcpus_own_does_not(d0: Guest) -> None:
    for virq in (14, CONSOLE, 5, 23):
        port = last(d0.op(Op.BIND_VIRQ, virq, 0, JUNK))
        assert d0.op(Op.BIND_VCPU, port, 0) == (port, 0)
        assert d0.op(Op.BIND_VCPU, port, 1) == (port, 1)
    for port in (last(d0.op(Op.BIND_VIRQ, TIMER, 0, JUNK)), d0.ipi()):
        assert d0.op(Op.BIND_VCPU, port, 0) == -EINVAL
    d0.virq(CONSOLE)
    assert (d0.told(0), d0.told(1)) == ((0, 0), (1, 1))


@fact()
def bind_vcpu_looks_at_the_vcpu_first(d0: Guest) -> None:
    assert d0.op(Op.BIND_VCPU, 5000, 2) == -ENOENT
    assert d0.op(Op.BIND_VCPU, 5000, 1) == -EINVAL
    assert d0.op(Op.BIND_VCPU, 0, 1) == d0.op(Op.BIND_VCPU, 9, 1) == -EINVAL


@fact()
def a_closed_port_is_vcpu_0s_again(d0: Guest) -> None:
    port = d0.unbound(0)
    d0.op(Op.BIND_VCPU, port, 1)
    d0.op(Op.CLOSE, port)
    assert d0.status(port) == (CLOSED, 0, JUNK, JUNK)


@fact()
def a_global_virq_that_was_moved_is_bound_anew_once_closed(d0: Guest) -> None:
    port = last(d0.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK))
    d0.op(Op.BIND_VCPU, port, 1)
    d0.op(Op.CLOSE, port)
    d0.virq(CONSOLE)
    assert d0.pending == 0
    assert d0.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK) == (CONSOLE, 0, port)


@fact(Domain(), Domain(), Domain(delivery="pv"))
def an_hvm_guest_binds_pirqs_and_a_pv_guest_without_leave_does_not(
    d0: Guest, d1: Guest, d2: Guest
) -> None:
    for guest in (d0, d1):
        assert guest.op(Op.BIND_PIRQ, 0, 0, JUNK) == (0, 0, 1)
        assert guest.op(Op.BIND_PIRQ, 0, 1, JUNK) == -EEXIST
        assert guest.op(Op.BIND_PIRQ, PIRQS - 1, 0, JUNK) == (PIRQS - 1, 0, 2)
        assert guest.op(Op.BIND_PIRQ, PIRQS, 0, JUNK) == -EINVAL
        assert guest.status(1) == (PIRQ, 0, 0, JUNK)
    assert d2.op(Op.BIND_PIRQ, 0, 0, JUNK) == -EPERM


# Status


@fact()
def status_writes_the_fields_that_apply_and_no_other(d0: Guest, d1: Guest) -> None:
    half = JUNK & 0xFFFF_0000
    assert d0.status(1) == (CLOSED, 0, JUNK, JUNK)
    theirs = d0.unbound(1)
    assert d0.status(theirs) == (UNBOUND, 0, half | 1, JUNK)
    ours = d1.bind(0, theirs)
    assert d0.status(theirs) == (INTERDOMAIN, 0, half | 1, ours)
    assert d0.status(d0.ipi(1)) == (IPI, 1, JUNK, JUNK)
    assert d0.status(last(d0.op(Op.BIND_VIRQ, 9, 0, JUNK))) == (VIRQ, 0, 9, JUNK)
    assert d0.status(0) == (CLOSED, 0, JUNK, JUNK)
    assert d0.op(Op.STATUS, SELF, 0xABCD, 0, 1, 2, 3, 4) == (SELF, 0xABCD, 0, CLOSED, 0, 3, 4)


@fact()
def status_of_another_domain_is_the_privileged_ones(d0: Guest, d1: Guest, d2: Guest) -> None:
    asked = 0, 1, JUNK, JUNK, JUNK, JUNK
    assert d2.op(Op.STATUS, 1, *asked) == -EPERM
    assert d2.op(Op.STATUS, 1, 0, BUCKET, *asked[2:]) == -EINVAL
    assert d2.op(Op.STATUS, 9, *asked) == -ESRCH
    assert d2.op(Op.STATUS, 2, *asked) == (2, 0, 1, CLOSED, 0, JUNK, JUNK)
    assert d0.op(Op.STATUS, 1, *asked) == (1, 0, 1, CLOSED, 0, JUNK, JUNK)
