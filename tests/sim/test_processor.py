"""What a guest's processor does, and how Xen interrupts it: each way as a bare guest met it on a
real Xen."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from activations import XenError
from xen_sim import Machine, PlainGuest, TripleFault
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5
from xen_sim.guests.upcalls import CALLBACK_VECTOR, UPCALL_VECTOR

Main = Callable[[PlainGuest], Any]


class Untouched(Solo5):
    """A kernel that registers for nothing: the test does."""

    name = "untouched"

    def start(self) -> None:
        self.prepare()


def run(main: Main, delivery: Delivery = "vector", other: Main | None = None) -> Any:
    """What `main` returns on a machine of its own; domid 1, with dom0 beside it if it is given."""
    machine = Machine()
    if other is not None:
        machine.plain("dom0", other)
    machine.plain("guest", main, kernel=Untouched, delivery=delivery)
    return machine.run()["guest"]


def with_handler(guest: PlainGuest, vector: int, *, eoi: bool = True, clears: bool = False) -> list:
    """Register a handler that counts its entries."""
    entered: list[int] = []

    def handler() -> None:
        entered.append(guest.kernel.info.upcall_pending[0])
        if clears or len(entered) > 100:
            guest.kernel.info.upcall_pending[0] = 0
        if eoi:
            guest.cpu.eoi()

    guest.cpu.idt[vector] = handler
    return entered


def send_to_oneself(guest: PlainGuest) -> int:
    """A port that fires whenever it is sent to: an IPI of this vCPU."""
    port = guest.xen.bind_ipi()
    guest.kernel.unmask((port,))
    return port


def test_registering_the_upcall_vector_asserts_it_once() -> None:
    def main(guest: PlainGuest) -> list[int]:
        entered = with_handler(guest, UPCALL_VECTOR)
        guest.xen.set_upcall_vector(UPCALL_VECTOR)
        guest.cpu.sti()
        guest.cpu.sti()
        return entered

    assert run(main) == [0], "once, with nothing pending"


def test_a_vector_below_16_is_refused() -> None:
    def main(guest: PlainGuest) -> list[int]:
        refused = []
        for register in (guest.xen.set_upcall_vector, guest.xen.set_callback_vector):
            for vector in (0, 15, 256):
                with pytest.raises(XenError) as caught:
                    register(vector)
                refused.append(caught.value.errno)
        return refused

    assert set(run(main)) == {errno.EINVAL}


@pytest.mark.parametrize("eoi", [True, False])
def test_the_upcall_vector_comes_again_only_after_the_eoi(eoi: bool) -> None:
    def main(guest: PlainGuest) -> int:
        port = send_to_oneself(guest)
        entered = with_handler(guest, UPCALL_VECTOR, eoi=eoi)
        guest.xen.set_upcall_vector(UPCALL_VECTOR)
        guest.cpu.sti()
        for _ in range(3):
            guest.xen.send(port)
            guest.cpu.sti()
            guest.kernel.unmask(guest.kernel.demux())
        return len(entered)

    assert run(main) == (4 if eoi else 1)


def test_a_flag_set_by_hand_raises_nothing_on_the_upcall_vector() -> None:
    def main(guest: PlainGuest) -> int:
        entered = with_handler(guest, UPCALL_VECTOR)
        guest.xen.set_upcall_vector(UPCALL_VECTOR)
        guest.cpu.sti()
        guest.kernel.info.upcall_pending[0] = 1
        guest.cpu.sti()
        return len(entered)

    assert run(main) == 1


def test_the_callback_vector_is_a_level_and_needs_no_eoi() -> None:
    """A handler that leaves evtchn_upcall_pending set is entered again at once."""

    def main(guest: PlainGuest, clears: bool) -> tuple[int, int]:
        port = send_to_oneself(guest)
        entered = with_handler(guest, CALLBACK_VECTOR, eoi=False, clears=clears)
        guest.xen.set_callback_vector(CALLBACK_VECTOR)
        guest.cpu.sti()
        assert entered == [], "registering it asserts nothing"
        guest.xen.send(port)
        guest.cpu.sti()
        return len(entered), guest.cpu.apic.irr | guest.cpu.apic.isr

    assert run(lambda guest: main(guest, True), "callback") == (1, 0)
    assert run(lambda guest: main(guest, False), "callback") == (101, 0)


def test_a_pv_guest_holds_upcalls_off_by_its_mask() -> None:
    def main(guest: PlainGuest) -> list[int]:
        port = send_to_oneself(guest)
        info = guest.kernel.info
        masks: list[int] = []

        def handler() -> None:
            masks.append(info.upcall_mask[0])
            info.upcall_pending[0] = 0

        guest.xen.set_callbacks(handler)
        guest.cpu.interrupts = True
        info.upcall_mask[0] = 1
        guest.xen.send(port)
        guest.xen.force_upcall()
        assert masks == [], "masked"
        info.upcall_mask[0] = 0
        guest.xen.force_upcall()
        assert info.upcall_mask[0] == 0, "iret restores it"
        return masks

    assert run(main, "pv") == [1], "set while the handler runs"


def test_each_kind_of_guest_has_its_own_way_of_delivery() -> None:
    def hvm(guest: PlainGuest) -> None:
        with pytest.raises(XenError, match="set_callbacks"):
            guest.xen.set_callbacks(lambda: None)

    def pv(guest: PlainGuest) -> None:
        with pytest.raises(XenError, match="HVMOP_set_evtchn_upcall_vector"):
            guest.xen.set_upcall_vector(UPCALL_VECTOR)

    run(hvm)
    run(pv, "pv")


def test_sti_hlt_cannot_be_torn_apart_and_sti_then_hlt_can() -> None:
    """An event that is due before `sti; hlt` ends the `hlt`; where the upcall was taken before,
    nothing does."""

    def shadowed(guest: PlainGuest) -> int:
        port = send_to_oneself(guest)
        entered = with_handler(guest, UPCALL_VECTOR)
        guest.xen.set_upcall_vector(UPCALL_VECTOR)
        guest.cpu.cli()
        guest.xen.send(port)
        guest.cpu.sti_hlt()
        return len(entered)

    assert run(shadowed) == 1


def test_a_hlt_sleeps_where_the_guest_has_cleared_the_flag_of_its_callback_by_hand() -> None:
    """The event is pending still, and nothing is due: Xen tells of it once."""

    def main(guest: PlainGuest) -> tuple[int, bool]:
        entered = with_handler(guest, CALLBACK_VECTOR, clears=True)
        guest.xen.set_callback_vector(CALLBACK_VECTOR)
        port = send_to_oneself(guest)
        guest.cpu.cli()
        guest.xen.send(port)
        guest.kernel.info.upcall_pending[0] = 0
        timer = guest.xen.bind_virq(0)
        guest.xen.set_timer(1_000)
        guest.kernel.info.pending_sel[0] = 0
        guest.kernel.unmask((timer,))
        guest.cpu.sti_hlt()
        return len(entered), guest.platform.time_ns() >= 1_000

    assert run(main, "callback") == (1, True)


def test_hlt_with_interrupts_off_takes_the_processor_down_whatever_catches_errors() -> None:
    def main(guest: PlainGuest) -> None:
        guest.cpu.cli()
        try:
            guest.cpu.hlt()
        except BaseException:  # the run is over all the same
            return
        finally:
            guest.cpu.interrupts = True

    with pytest.raises(TripleFault, match="guest: hlt with interrupts disabled"):
        run(main)


def test_behind_the_ports_of_a_pc_there_is_nothing() -> None:
    def main(guest: PlainGuest) -> list[int]:
        for port in (0x20, 0x21, 0xA0, 0xE9):
            guest.cpu.outb(port, 0x20)
        return [guest.cpu.inb(port) for port in (0x20, 0x40, 0x71, 0x3F8, 0xCF8, 0xE9)]

    assert run(main) == [0xFF] * 6


# Timers, blocking, vCPUs


def test_a_singleshot_timer_that_has_passed_fires_at_once_and_has_no_limit_ahead() -> None:
    def main(guest: PlainGuest) -> list[int]:
        fired = []
        guest.kernel.upcalls.register(guest.kernel.upcall)
        guest.kernel.upcalls.begin()
        port = guest.xen.bind_virq(0)
        guest.kernel.unmask((port,))
        for deadline in (-5, 5_000, 3_000):
            guest.xen.set_singleshot_timer(deadline)
            while port not in guest.take():
                guest.sleep()
            fired.append(guest.platform.time_ns())
        return fired

    assert run(main) == [0, 5_000, 5_000]


def test_a_periodic_timer_fires_every_period_and_not_oftener_than_a_millisecond() -> None:
    def main(guest: PlainGuest) -> list[int]:
        guest.kernel.upcalls.register(guest.kernel.upcall)
        guest.kernel.upcalls.begin()
        port = guest.xen.bind_virq(0)
        guest.kernel.unmask((port,))
        with pytest.raises(XenError, match="VCPUOP_set_periodic_timer"):
            guest.xen.set_periodic_timer(999_999)
        guest.xen.set_periodic_timer(2_000_000)
        fired = []
        while len(fired) < 3:
            while port not in guest.take():
                guest.kernel.upcalls.disable()
                guest.kernel.upcalls.sleep()
            fired.append(guest.platform.time_ns())
        guest.xen.set_periodic_timer(None)
        return fired

    assert run(main) == [2_000_000, 4_000_000, 6_000_000]


def test_another_vcpus_timer_is_refused() -> None:
    def main(guest: PlainGuest) -> list[int | None]:
        errors = []
        for vcpu in (1, 2):
            with pytest.raises(XenError) as caught:
                guest.xen.set_singleshot_timer(1, vcpu)
            errors.append(caught.value.errno)
        return errors

    machine = Machine()
    machine.plain("guest", main, vcpus=2)
    assert machine.run()["guest"] == [errno.EINVAL, errno.ENOENT]


def test_a_vcpu_is_initialised_then_up_and_takes_itself_down() -> None:
    def main(guest: PlainGuest) -> list[Any]:
        xen, said = guest.xen, []
        with pytest.raises(XenError, match="VCPUOP_up"):
            xen.up(1)
        with pytest.raises(XenError) as caught:
            xen.initialise(2, lambda: None)
        said.append(caught.value.errno)
        xen.initialise(1, lambda: said.append("ran"))
        said.append(xen.is_up(1))
        xen.up(1)
        said.append(xen.is_up(1))
        xen.yield_()
        with pytest.raises(XenError, match="VCPUOP_initialise"):
            xen.initialise(1, lambda: None)
        return said

    machine = Machine()
    machine.plain("guest", main, vcpus=2)
    assert machine.run()["guest"] == [errno.ENOENT, False, True, "ran"]


@pytest.mark.parametrize("port", [None, 1, 2])
def test_a_poll_of_several_ports_or_none_is_ended_by_any_event(port: int | None) -> None:
    def polling(guest: PlainGuest) -> int:
        first = guest.xen.alloc_unbound(0x7FF0, 0)
        second = guest.xen.alloc_unbound(0x7FF0, 0)
        assert (first, second) == (1, 2)
        guest.xen.poll([] if port is None else [first, second])
        return guest.platform.time_ns()

    def sending(guest: PlainGuest) -> None:
        guest.xen.poll([], 4_000)
        far = guest.xen.bind_interdomain(1, port or 1)
        guest.xen.send(far)

    assert run(polling, other=sending) == 4_000
