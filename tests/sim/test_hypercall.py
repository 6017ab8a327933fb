"""Hypercalls as Xen has them: a number and a structure in memory, or an errno."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from struct import Struct

import pytest

from activations import Domain, XenError
from activations.abi import event_channel as abi
from activations.abi.event_channel import DOMID_SELF, Op, Status, Virq
from xen_sim import Machine
from xen_sim.xen.hypercall import Hypercalls

SIZES = {
    Op.BIND_INTERDOMAIN: (abi.BIND_INTERDOMAIN, 12),
    Op.BIND_VIRQ: (abi.BIND_VIRQ, 12),
    Op.BIND_PIRQ: (abi.BIND_PIRQ, 12),
    Op.CLOSE: (abi.CLOSE, 4),
    Op.SEND: (abi.SEND, 4),
    Op.STATUS: (abi.STATUS, 24),
    Op.ALLOC_UNBOUND: (abi.ALLOC_UNBOUND, 8),
    Op.BIND_IPI: (abi.BIND_IPI, 8),
    Op.BIND_VCPU: (abi.BIND_VCPU, 8),
    Op.UNMASK: (abi.UNMASK, 4),
    Op.RESET: (abi.RESET, 2),
    Op.INIT_CONTROL: (abi.INIT_CONTROL, 24),
    Op.EXPAND_ARRAY: (abi.EXPAND_ARRAY, 8),
    Op.SET_PRIORITY: (abi.SET_PRIORITY, 8),
    Op.RESET_CONT: (abi.RESET, 2),
}


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    loops = [machine.create(name) for name in ("dom0", "guest")]
    yield machine
    for loop in loops:
        loop.close()


@pytest.fixture
def xen(machine: Machine) -> Hypercalls:
    """The guest's hypercalls; its domid is 1."""
    return Hypercalls(machine.xen.domains[1].vcpus[0])


def call(xen: Hypercalls, op: int, structure: Struct, *fields: int) -> tuple[int, ...]:
    argument = bytearray(structure.pack(*fields))
    xen.event_channel_op(op, argument)
    return structure.unpack(argument)


def refused(xen: Hypercalls, op: int, structure: Struct, *fields: int) -> int:
    with pytest.raises(XenError) as caught:
        call(xen, op, structure, *fields)
    return caught.value.errno or 0


@pytest.mark.parametrize("op", list(Op))
def test_structures_have_the_size_of_the_public_header(op: Op) -> None:
    structure, size = SIZES[op]
    assert structure.size == size


def test_a_command_there_is_not_is_enosys(xen: Hypercalls) -> None:
    assert refused(xen, 15, abi.SEND, 1) == errno.ENOSYS
    assert refused(xen, 99, abi.SEND, 1) == errno.ENOSYS


@pytest.mark.parametrize("op", list(Op))
def test_an_argument_that_cannot_be_read_is_efault(xen: Hypercalls, op: Op) -> None:
    with pytest.raises(XenError, match=f"EVTCHNOP_{op.name.lower()}: Bad address") as caught:
        xen.event_channel_op(op, bytearray(SIZES[op][1] - 1))
    assert caught.value.errno == errno.EFAULT


def test_a_channel_from_allocation_to_close(machine: Machine, xen: Hypercalls) -> None:
    dom0 = Hypercalls(machine.xen.domains[0].vcpus[0])
    *_, far = call(dom0, Op.ALLOC_UNBOUND, abi.ALLOC_UNBOUND, DOMID_SELF, 1, 0)
    *_, near = call(xen, Op.BIND_INTERDOMAIN, abi.BIND_INTERDOMAIN, 0, far, 0)
    said = call(xen, Op.STATUS, abi.STATUS, DOMID_SELF, near, 0, 0, 0, 0)
    assert said[2:] == (Status.INTERDOMAIN, 0, 0, far)
    call(xen, Op.SEND, abi.SEND, near)
    assert machine.xen.domains[0].event_channels.poll(far)
    call(xen, Op.UNMASK, abi.UNMASK, near)
    call(xen, Op.CLOSE, abi.CLOSE, near)
    said = call(dom0, Op.STATUS, abi.STATUS, DOMID_SELF, far, 0, 0, 0, 0)
    assert said[2:] == (Status.UNBOUND, 0, 1, 0)
    call(dom0, Op.RESET, abi.RESET, DOMID_SELF)
    said = call(dom0, Op.STATUS, abi.STATUS, DOMID_SELF, far, 0, 0, 0, 0)
    assert said[2] == Status.CLOSED


def test_ports_that_are_bound_to_interrupts(xen: Hypercalls) -> None:
    *_, port = call(xen, Op.BIND_VIRQ, abi.BIND_VIRQ, Virq.DEBUG, 0, 0)
    said = call(xen, Op.STATUS, abi.STATUS, DOMID_SELF, port, 0, 0, 0, 0)
    assert said[2:5] == (Status.VIRQ, 0, Virq.DEBUG)
    *_, ipi = call(xen, Op.BIND_IPI, abi.BIND_IPI, 0, 0)
    assert call(xen, Op.STATUS, abi.STATUS, DOMID_SELF, ipi, 0, 0, 0, 0)[2] == Status.IPI
    *_, pirq = call(xen, Op.BIND_PIRQ, abi.BIND_PIRQ, 3, 0, 0)
    said = call(xen, Op.STATUS, abi.STATUS, DOMID_SELF, pirq, 0, 0, 0, 0)
    assert said[2:5] == (Status.PIRQ, 0, 3)
    assert refused(xen, Op.BIND_VCPU, abi.BIND_VCPU, ipi, 1) == errno.ENOENT


def test_what_the_fifo_abi_has_is_refused_as_on_the_two_level_one(xen: Hypercalls) -> None:
    control = abi.INIT_CONTROL
    assert refused(xen, Op.INIT_CONTROL, control, 0, 0, 1, 0) == errno.ENOENT
    assert refused(xen, Op.INIT_CONTROL, control, 0, 4032, 0, 0) == errno.EINVAL
    assert refused(xen, Op.INIT_CONTROL, control, 0, 4, 0, 0) == errno.EINVAL
    assert refused(xen, Op.INIT_CONTROL, control, 10**9, 4024, 0, 0) == errno.EINVAL
    assert refused(xen, Op.EXPAND_ARRAY, abi.EXPAND_ARRAY, 0) == errno.EOPNOTSUPP
    assert refused(xen, Op.SET_PRIORITY, abi.SET_PRIORITY, 700, 7) == errno.EINVAL
    for port, priority in ((1, 7), (1, 16), (60, 7), (0, 0)):
        assert refused(xen, Op.SET_PRIORITY, abi.SET_PRIORITY, port, priority) == errno.ENOSYS


def test_a_reset_that_is_not_under_way_cannot_go_on(machine: Machine, xen: Hypercalls) -> None:
    dom0 = Hypercalls(machine.xen.domains[0].vcpus[0])
    assert refused(xen, Op.RESET_CONT, abi.RESET, DOMID_SELF) == errno.EBUSY
    assert refused(xen, Op.RESET_CONT, abi.RESET, 0) == errno.EPERM
    assert refused(dom0, Op.RESET_CONT, abi.RESET, 1) == errno.EINVAL
    assert refused(xen, Op.RESET_CONT, abi.RESET, 99) == errno.ESRCH


def test_what_xen_does_not_write_keeps_what_was_there(xen: Hypercalls) -> None:
    """status writes the fields that apply, the others only their port."""
    argument = bytearray(b"\xa5" * abi.STATUS.size)
    abi.STATUS.pack_into(argument, 0, DOMID_SELF, 60, 0, 0, 0, 0)
    argument[2:4], argument[16:] = b"\x11\x22", b"\xa5" * 8
    xen.event_channel_op(Op.STATUS, argument)
    assert argument[2:4] == b"\x11\x22"
    assert argument[16:] == b"\xa5" * 8


def test_poll_refuses_more_than_128_ports_and_ports_that_are_not(xen: Hypercalls) -> None:
    for ports in (range(1, 130), [5000], [-1], [60], [0]):
        with pytest.raises(XenError, match="SCHEDOP_poll") as caught:
            xen.poll(list(ports))
        assert caught.value.errno == errno.EINVAL


def test_poll_returns_for_a_pending_port_even_a_masked_one() -> None:
    """And at its timeout, an absolute time, when there is none."""
    machine = Machine()
    times: list[int] = []

    async def polling(xen: Domain) -> None:
        hypercalls = Hypercalls(machine.xen.domains[1].vcpus[0])
        with xen.events.alloc_unbound(0) as port:
            port.mask()
            hypercalls.poll([port.number], 3_000_000_000)
            times.append(xen.time_ns())
            hypercalls.poll([port.number])
            times.append(xen.time_ns())
            hypercalls.poll([port.number])
            times.append(xen.time_ns())

    async def sending(xen: Domain) -> None:
        await asyncio.sleep(4)
        with xen.events.bind_interdomain(1, 2) as port:
            port.notify()

    machine.boot("dom0", sending)
    machine.boot("guest", polling)
    machine.run()
    assert times == [3_000_000_000, 4_000_000_000, 4_000_000_000]
