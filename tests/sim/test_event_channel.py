"""Xen's side of event channels: its errors, its order of steps, its limits."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from activations import XenError
from activations.abi.event_channel import (
    DOMID_SELF,
    EVTCHN_MASK,
    EVTCHN_PENDING,
    NR_VIRQS,
    PENDING_SEL,
    UPCALL_PENDING,
    Status,
    Virq,
)
from activations.abi.sched import TIMEOUT_LIMIT_NS, TIMEOUT_MISTAKEN_NS
from xen_sim import Machine
from xen_sim.xen.domain import XenDomain
from xen_sim.xen.event_channel import EventChannels


@pytest.fixture
def machine() -> Any:
    machine = Machine()
    loops = [machine.create(name) for name in ("dom0", "guest", "other")]
    yield machine
    for loop in loops:
        loop.close()


@pytest.fixture
def dom0(machine: Machine) -> XenDomain:
    return machine.xen.domains[0]


@pytest.fixture
def guest(machine: Machine) -> XenDomain:
    return machine.xen.domains[1]


def refused(operation: Callable[..., Any], *args: Any) -> int:
    with pytest.raises(XenError, match="EVTCHNOP_") as caught:
        operation(*args)
    return caught.value.errno or 0


def connect(one: XenDomain, other: XenDomain) -> tuple[int, int]:
    """A channel between two domains; both ports unmasked, nothing pending."""
    far = other.event_channels.alloc_unbound(DOMID_SELF, one.domid)
    near = one.event_channels.bind_interdomain(other.domid, far)
    for domain, port in ((one, near), (other, far)):
        domain.shared_info.bytes[EVTCHN_PENDING + port // 8] &= ~(1 << port % 8)
        domain.shared_info.bytes[EVTCHN_MASK + port // 8] &= ~(1 << port % 8)
    return near, far


def state(domain: XenDomain, port: int) -> tuple[int, int, int]:
    """The port's pending bit, its selector bit, and upcall_pending, as they stand in the page."""
    page = domain.shared_info.bytes
    return (
        page[EVTCHN_PENDING + port // 8] >> port % 8 & 1,
        page[PENDING_SEL + port // 512] >> port // 64 % 8 & 1,
        page[UPCALL_PENDING],
    )


def test_ports_are_handed_out_lowest_free_first(guest: XenDomain) -> None:
    channels = guest.event_channels
    first, second, third = (channels.alloc_unbound(DOMID_SELF, 0) for _ in range(3))
    assert (second, third) == (first + 1, first + 2)
    channels.close(third)
    channels.close(first)
    assert channels.alloc_unbound(DOMID_SELF, 0) == first
    assert channels.alloc_unbound(DOMID_SELF, 0) == third


def test_a_domain_has_1023_ports_unless_configured_otherwise(guest: XenDomain) -> None:
    channels = guest.event_channels
    with pytest.raises(XenError, match="all 1023 ports are taken") as caught:
        for _ in range(2000):
            channels.alloc_unbound(DOMID_SELF, 0)
    assert caught.value.errno == errno.ENOSPC
    assert channels.open_ports()[-1] == 1023


def test_bind_interdomain_refuses_with_xens_errors(guest: XenDomain, dom0: XenDomain) -> None:
    bind = guest.event_channels.bind_interdomain
    assert refused(bind, 99, 1) == errno.ESRCH
    assert refused(bind, 0, 700) == errno.EINVAL
    for_another = dom0.event_channels.alloc_unbound(DOMID_SELF, 2)
    assert refused(bind, 0, for_another) == errno.EINVAL
    _, taken = connect(guest, dom0)
    assert refused(bind, 0, taken) == errno.EINVAL


def test_a_new_interdomain_port_is_pending_once(guest: XenDomain, dom0: XenDomain) -> None:
    far = dom0.event_channels.alloc_unbound(DOMID_SELF, 1)
    near = guest.event_channels.bind_interdomain(0, far)
    assert state(guest, near)[0] == 1
    assert state(dom0, far)[0] == 0


def test_only_dom0_allocates_for_others(guest: XenDomain, dom0: XenDomain) -> None:
    assert refused(guest.event_channels.alloc_unbound, 2, 1) == errno.EPERM
    port = dom0.event_channels.alloc_unbound(1, 2)
    assert guest.event_channels.channel(port) is not None
    assert refused(dom0.event_channels.alloc_unbound, 99, 0) == errno.ESRCH


def test_virqs_bind_once_and_global_ones_to_vcpu_0(guest: XenDomain) -> None:
    channels = guest.event_channels
    assert refused(channels.bind_virq, NR_VIRQS) == errno.EINVAL
    assert refused(channels.bind_virq, -1) == errno.EINVAL
    assert refused(channels.bind_virq, 5, 1) == errno.EINVAL, "all but four are global to Xen"
    assert refused(channels.bind_virq, Virq.CONSOLE, 1) == errno.EINVAL
    assert refused(channels.bind_virq, Virq.DEBUG, 1) == errno.ENOENT
    port = channels.bind_virq(Virq.DEBUG)
    assert refused(channels.bind_virq, Virq.DEBUG) == errno.EEXIST
    channels.close(port)
    channels.bind_virq(Virq.DEBUG)


def test_other_kinds_of_ports(guest: XenDomain, dom0: XenDomain) -> None:
    channels = guest.event_channels
    pirq = channels.bind_pirq(3)
    assert refused(channels.bind_pirq, 3) == errno.EEXIST
    assert refused(channels.bind_pirq, 48) == errno.EINVAL
    assert refused(channels.send, pirq) == errno.EINVAL
    channels.bind_vcpu(pirq, 0)
    channels.close(pirq)
    assert channels.bind_pirq(3) == pirq
    assert refused(channels.bind_ipi, 1) == errno.ENOENT
    ipi = channels.bind_ipi()
    channels.send(ipi)
    assert state(guest, ipi)[0] == 1
    assert refused(channels.bind_vcpu, ipi, 0) == errno.EINVAL
    assert refused(channels.bind_vcpu, ipi, 1) == errno.ENOENT


def test_send_to_an_unbound_port_is_dropped_in_silence(guest: XenDomain) -> None:
    port = guest.event_channels.alloc_unbound(DOMID_SELF, 0)
    guest.event_channels.send(port)
    assert state(guest, port)[0] == 0


def test_send_refuses_ports_that_cannot_send(guest: XenDomain) -> None:
    channels = guest.event_channels
    assert refused(channels.send, 700) == errno.EINVAL
    assert refused(channels.send, -1) == errno.EINVAL
    assert refused(channels.send, channels.bind_virq(Virq.DEBUG)) == errno.EINVAL


def test_close_frees_the_port_and_leaves_the_peer_unbound(
    guest: XenDomain, dom0: XenDomain
) -> None:
    near, far = connect(guest, dom0)
    dom0.event_channels.send(far)
    guest.event_channels.close(near)
    assert state(guest, near)[0] == 0
    theirs = dom0.event_channels.channel(far)
    assert theirs is not None
    assert (theirs.status, theirs.remote_domid) == (Status.UNBOUND, 1)
    assert refused(guest.event_channels.close, near) == errno.EINVAL
    assert guest.event_channels.bind_interdomain(0, far) == near


def test_status_tells_of_every_port(guest: XenDomain, dom0: XenDomain) -> None:
    near, far = connect(guest, dom0)
    channel = dom0.event_channels.status(1, near)
    assert (channel.status, channel.remote_domid, channel.remote_port) == (
        Status.INTERDOMAIN,
        0,
        far,
    )
    assert refused(dom0.event_channels.status, 99, 1) == errno.ESRCH
    assert refused(dom0.event_channels.status, 1, 5000) == errno.EINVAL
    assert refused(channels_of(guest).status, 0, far) == errno.EPERM


def channels_of(domain: XenDomain) -> EventChannels:
    return domain.event_channels


def test_the_table_begins_with_64_ports_and_grows_by_64(guest: XenDomain) -> None:
    """A port beyond it is EINVAL, one within it that was never bound is closed."""
    channels = guest.event_channels
    assert channels.status(DOMID_SELF, 63).status is Status.CLOSED
    channels.unmask(63)
    assert refused(channels.status, DOMID_SELF, 64) == errno.EINVAL
    assert refused(channels.unmask, 64) == errno.EINVAL
    while channels.alloc_unbound(DOMID_SELF, 0) < 63:
        pass
    assert refused(channels.bind_interdomain, 0, 700) == errno.EINVAL
    channels.unmask(64)  # a bind that is refused has made room for its port all the same
    assert channels.status(DOMID_SELF, 127).status is Status.CLOSED
    assert refused(channels.status, DOMID_SELF, 128) == errno.EINVAL


def test_a_full_table_is_said_before_anything_else(guest: XenDomain, dom0: XenDomain) -> None:
    for domain in (guest, dom0):
        domain.event_channels.max_ports = len(domain.event_channels.open_ports())
    assert refused(guest.event_channels.bind_interdomain, 0, 700) == errno.ENOSPC
    assert refused(guest.event_channels.alloc_unbound, 0, 1) == errno.ENOSPC
    assert refused(guest.event_channels.bind_interdomain, 99, 1) == errno.ESRCH


def test_reset_closes_every_port_of_the_caller_alone(guest: XenDomain, dom0: XenDomain) -> None:
    connect(guest, dom0)
    assert refused(dom0.event_channels.reset, 1) == errno.EINVAL
    assert refused(guest.event_channels.reset, 0) == errno.EPERM
    guest.event_channels.reset()
    assert guest.event_channels.open_ports() == []


def test_an_event_sets_pending_selector_and_upcall(guest: XenDomain, dom0: XenDomain) -> None:
    near, far = connect(guest, dom0)
    dom0.event_channels.send(far)
    assert state(guest, near) == (1, 1, 1)


def test_a_masked_port_becomes_pending_and_nothing_else(guest: XenDomain, dom0: XenDomain) -> None:
    near, far = connect(guest, dom0)
    guest.shared_info.bytes[PENDING_SEL] = guest.shared_info.bytes[UPCALL_PENDING] = 0
    guest.shared_info.bytes[EVTCHN_MASK + near // 8] |= 1 << near % 8
    dom0.event_channels.send(far)
    assert state(guest, near) == (1, 0, 0)


def test_xens_unmask_acts_on_a_masked_port_alone(guest: XenDomain, dom0: XenDomain) -> None:
    near, _ = connect(guest, dom0)
    guest.shared_info.bytes[PENDING_SEL] = guest.shared_info.bytes[UPCALL_PENDING] = 0
    guest.shared_info.bytes[EVTCHN_PENDING + near // 8] |= 1 << near % 8
    guest.event_channels.unmask(near)
    assert state(guest, near) == (1, 0, 0), "not masked: nothing is done"
    guest.shared_info.bytes[EVTCHN_MASK + near // 8] |= 1 << near % 8
    guest.event_channels.unmask(near)
    assert state(guest, near) == (1, 1, 1)
    guest.event_channels.unmask(60)  # a free port: nothing is done
    assert refused(guest.event_channels.unmask, 900) == errno.EINVAL
    assert refused(guest.event_channels.unmask, 5000) == errno.EINVAL


def test_an_event_that_is_pending_already_stops_at_the_first_step(
    guest: XenDomain, dom0: XenDomain
) -> None:
    near, far = connect(guest, dom0)
    guest.shared_info.bytes[EVTCHN_PENDING + near // 8] |= 1 << near % 8
    guest.shared_info.bytes[PENDING_SEL] = guest.shared_info.bytes[UPCALL_PENDING] = 0
    dom0.event_channels.send(far)
    assert state(guest, near) == (1, 0, 0)


@pytest.mark.parametrize(
    ("deadline", "fires"),
    [
        pytest.param(5_000, 5_000, id="ahead"),
        pytest.param(TIMEOUT_LIMIT_NS, TIMEOUT_LIMIT_NS, id="13 days ahead"),
        pytest.param(TIMEOUT_LIMIT_NS + 1, TIMEOUT_MISTAKEN_NS, id="more than 13 days ahead"),
        pytest.param(-1, TIMEOUT_MISTAKEN_NS, id="negative"),
    ],
)
def test_set_timer_op_takes_what_is_too_far_for_a_mistake(
    machine: Machine, guest: XenDomain, deadline: int, fires: int
) -> None:
    guest.vcpus[0].timers.set_timer(deadline)
    machine.xen.clock.idle()
    assert machine.xen.clock.time_ns() == fires


def test_a_new_timer_replaces_the_old_one_and_none_stops_it(
    machine: Machine, guest: XenDomain
) -> None:
    guest.vcpus[0].timers.set_timer(1_000)
    guest.vcpus[0].timers.set_timer(2_000)
    assert machine.xen.calendar.next_time() == 2_000
    guest.vcpus[0].timers.set_timer(None)
    assert machine.xen.calendar.next_time() is None
