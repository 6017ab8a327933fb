"""The two-level ABI, polling and blocking, reset."""

from __future__ import annotations

from errno import EBUSY, EFAULT, EINVAL, EPERM, ESRCH

from activations.abi import event_channel as abi
from activations.abi.event_channel import Op

from ..world import ASLEEP, Domain
from .guest import BUCKET, CLOSED, CONSOLE, JUNK, RESET_CONT, SELF, UNBOUND, Guest, fact

# The two-level ABI


@fact()
def an_event_sets_pending_then_the_selector_then_the_upcall(d0: Guest) -> None:
    port = d0.ipi()
    d0.send(port)
    assert (d0.pending, *d0.told(), d0.upcalls()) == (1 << port, 1, 1, 1)


@fact()
def an_event_that_is_pending_already_comes_to_nothing(d0: Guest) -> None:
    port = d0.ipi()
    d0.store(abi.EVTCHN_PENDING, 1 << port)
    d0.send(port)
    assert (d0.told(), d0.upcalls()) == ((0, 0), 0)


@fact()
def a_masked_event_is_pending_and_nobody_is_told(d0: Guest) -> None:
    port = d0.ipi()
    d0.mask_all()
    d0.send(port)
    assert (d0.pending, d0.told()) == (1 << port, (0, 0))


@fact()
def a_selector_that_is_set_tells_nobody_again(d0: Guest) -> None:
    port = d0.ipi()
    d0.store(abi.PENDING_SEL, 1)
    d0.send(port)
    assert (d0.pending, d0.told(), d0.upcalls()) == (1 << port, (0, 1), 0)


@fact()
def an_upcall_that_is_pending_is_not_raised_again(d0: Guest) -> None:
    port = d0.ipi()
    d0.store(abi.UPCALL_PENDING, 1, 1)
    d0.send(port)
    assert (d0.told(), d0.upcalls()) == ((1, 1), 0)


@fact()
def unmask_acts_on_a_masked_port_alone(d0: Guest) -> None:
    port = d0.ipi()
    d0.store(abi.EVTCHN_PENDING, 1 << port)
    assert d0.op(Op.UNMASK, port) == (port,)
    assert d0.told() == (0, 0)
    d0.mask_all()
    assert d0.op(Op.UNMASK, port) == (port,)
    assert d0.mask == 2**64 - 1 ^ 1 << port
    assert (d0.told(), d0.upcalls()) == ((1, 1), 1)


@fact()
def unmask_of_a_port_that_is_not_pending_tells_nobody(d0: Guest) -> None:
    port = d0.ipi()
    d0.mask_all()
    d0.op(Op.UNMASK, port)
    assert (d0.mask, d0.told()) == (2**64 - 1 ^ 1 << port, (0, 0))


@fact()
def unmask_of_a_free_port_does_nothing(d0: Guest) -> None:
    d0.mask_all()
    d0.store(abi.EVTCHN_PENDING, 2**64 - 1)
    for port in (0, 9):
        assert d0.op(Op.UNMASK, port) == (port,)
    assert (d0.mask, d0.told()) == (2**64 - 1, (0, 0))


@fact()
def what_is_pending_when_a_port_moves_stays_with_the_vcpu_it_was_told(d0: Guest) -> None:
    port = d0.unbound(0)
    other = d0.bind(SELF, port)
    d0.store(abi.EVTCHN_PENDING, 0)
    d0.send(other)
    assert d0.op(Op.BIND_VCPU, port, 1) == (port, 1)
    assert d0.told(1) == (0, 0)
    d0.store(abi.EVTCHN_PENDING, 0)
    d0.send(other)
    assert d0.told(1) == (1, 1)


# Polling and blocking


@fact()
def a_poll_of_a_port_that_stands_for_nothing_is_refused(d0: Guest) -> None:
    for port in (0, 1, BUCKET, 2**32 - 1):
        assert d0.poll(port) == -EINVAL
    assert d0.poll(*[0] * 129) == -EINVAL
    assert not d0.asleep()


@fact()
def a_poll_looks_at_its_ports_in_turn(d0: Guest) -> None:
    port = d0.ipi()
    d0.mask_all()
    d0.send(port)
    assert d0.poll(port) == d0.poll(port, 9) == 0
    assert d0.poll(9, port) == -EINVAL
    assert d0.poll(*[port] * 128) == 0


@fact()
def a_poll_while_an_upcall_is_due_returns_before_it_looks(d0: Guest) -> None:
    port = d0.ipi()
    d0.send(port)
    assert d0.poll(9) == -EINVAL
    d0.interrupts(True)
    assert d0.poll(9) == 0
    assert d0.poll() == 0


@fact()
def a_poll_of_one_port_is_ended_by_its_event_masked_or_not(d0: Guest) -> None:
    one, other = d0.ipi(), d0.ipi()
    d0.mask_all()
    assert d0.poll(one) == ASLEEP
    d0.op(Op.SEND, other, vcpu=1)
    assert d0.asleep()
    d0.op(Op.SEND, one, vcpu=1)
    assert not d0.asleep()


@fact()
def a_poll_of_several_ports_or_none_is_ended_by_any_new_event(d0: Guest) -> None:
    one, two, other = d0.ipi(), d0.ipi(), d0.ipi()
    d0.mask_all()
    for ports in ((), (one, two)):
        d0.store(abi.EVTCHN_PENDING, 0)
        assert d0.poll(*ports) == ASLEEP
        d0.op(Op.SEND, other, vcpu=1)
        assert not d0.asleep()


@fact()
def a_poll_is_not_ended_by_an_event_that_was_pending(d0: Guest) -> None:
    one, other = d0.ipi(), d0.ipi()
    d0.mask_all()
    d0.send(other)
    assert d0.poll(one, one) == ASLEEP
    d0.op(Op.SEND, other, vcpu=1)
    assert d0.asleep()


@fact()
def a_poll_is_ended_by_any_upcall_interrupts_on_or_off(d0: Guest) -> None:
    one, other = d0.ipi(), d0.ipi()
    assert d0.poll(one) == ASLEEP
    d0.op(Op.SEND, other, vcpu=1)
    assert not d0.asleep()
    assert d0.upcalls() == 1


@fact()
def a_poll_on_one_vcpu_is_ended_by_an_event_that_another_is_told(d0: Guest) -> None:
    port = d0.ipi(vcpu=1)
    assert d0.poll(port) == ASLEEP
    d0.op(Op.SEND, port, vcpu=1)
    assert not d0.asleep()
    assert d0.told(1) == (1, 1)


@fact()
def blocking_returns_where_an_upcall_is_due_and_else_sleeps_until_one(d0: Guest) -> None:
    port = d0.ipi()
    d0.send(port)
    d0.interrupts(True)
    assert d0.block() == 0
    d0.interrupts(False)
    assert d0.block() == ASLEEP
    d0.store(abi.UPCALL_PENDING, 0, 1)
    d0.store(abi.PENDING_SEL, 0)
    d0.store(abi.EVTCHN_PENDING, 0)
    d0.op(Op.SEND, port, vcpu=1)
    assert d0.asleep()  # the vector was requested already: nothing new for the processor


@fact(Domain(vcpus=2, delivery="callback"))
def a_callback_is_a_level(d0: Guest) -> None:
    port = d0.ipi()
    d0.interrupts(True)
    d0.send(port)
    assert d0.block() == d0.poll() == 0
    d0.store(abi.UPCALL_PENDING, 0, 1)
    assert d0.block() == ASLEEP


@fact(Domain(vcpus=2, delivery="pv"))
def a_pv_guests_mask_holds_an_upcall_off_from_a_poll_and_block_clears_it(d0: Guest) -> None:
    port = d0.ipi()
    d0.send(port)
    d0.store(abi.UPCALL_MASK, 1, 1)
    assert d0.poll(9) == -EINVAL
    assert d0.block() == 0
    assert d0.load(abi.UPCALL_MASK, 1) == 0
    assert d0.poll(9) == 0


# Reset


@fact()
def reset_closes_all_and_clears_pending_and_nothing_else(d0: Guest, d1: Guest) -> None:
    theirs = d0.unbound(1)
    d1.bind(0, theirs)
    d1.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK)
    d1.mask_all()
    assert d1.op(Op.RESET, SELF) == (SELF,)
    assert (d1.pending, d1.mask, d1.told()) == (0, 2**64 - 1, (1, 1))
    assert d1.status(1) == d1.status(2) == (CLOSED, 0, JUNK, JUNK)
    assert d0.status(theirs) == (UNBOUND, 0, JUNK & 0xFFFF_0000 | 1, JUNK)
    assert d1.op(Op.BIND_VIRQ, CONSOLE, 0, JUNK) == (CONSOLE, 0, 1)


@fact()
def another_domain_is_reset_by_the_privileged_one_and_paused(d0: Guest, d1: Guest) -> None:
    assert d1.op(Op.RESET, 0) == -EPERM
    assert d1.op(Op.RESET, 9) == -ESRCH
    assert d0.op(Op.RESET, 1) == -EINVAL
    assert d1.op(Op.RESET, 1) == (1,)


@fact()
def command_14_resumes_a_reset_and_none_is_under_way(d0: Guest, d1: Guest) -> None:
    assert d1.op(RESET_CONT, SELF) == d0.op(RESET_CONT, 0) == -EBUSY
    assert d1.op(RESET_CONT, 0) == -EPERM
    assert d0.op(RESET_CONT, 1) == -EINVAL
    assert d0.op(RESET_CONT, 9) == -ESRCH
    assert d0.raw(RESET_CONT, bytearray(1)) == -EFAULT
