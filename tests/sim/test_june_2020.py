"""The four faults of June 2020, each shown doing its harm under a schedule written down.

A guest tells dom0 that it is ready and waits; dom0 sends. The schedule names the very step of the
guest before which dom0 runs. The shipped lower half goes through the same schedules and loses
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from activations import BlockedForever, Domain
from xen_sim import Kernel, Machine, Schedule, Seeded, Solo5
from xen_sim.guests.solo5_2020 import with_faults

UnmaskTestsMask = with_faults(1)
UpcallClearsPending = with_faults(2)
DemuxLeavesUnmasked = with_faults(3)
SleepsWithInterruptsOn = with_faults(4)

COMES_BEFORE_HLT = [("guest: hlt", "dom0")]
COMES_BEFORE_CLI = [("guest: cli", "dom0")]
COMES_BEFORE_UNMASK = [
    ("guest: hlt", "dom0"),  # the first event comes
    ("guest: xchg evtchn_pending_sel", "guest"),  # its demux begins
    ("guest: btr evtchn_mask", "dom0"),  # the second comes as its unmask is to begin
]
COMES_THROUGHOUT_THE_DEMUX = [
    ("guest: hlt", "dom0"),
    ("guest: xchg evtchn_pending_sel", "guest"),
    ("guest: read evtchn_pending", "dom0", 2),
    *[("guest: read evtchn_pending", "dom0")] * 4,
]


Steps = Sequence[tuple[str, str] | tuple[str, str, int]]


def hear(events: int, steps: Steps, lower_half: type[Kernel], seed: int | None = None) -> int:
    """Run a guest that waits until it has heard from dom0 `events` times, and dom0 that sends as
    often; give the most deliveries that one wait found. Raises `BlockedForever` when the guest
    sleeps though an event came. In any case, the schedule must have come to pass. With a seed,
    chance decides who runs before every step, and there are no steps to be written down."""
    schedule = Schedule(*steps, armed=False)
    most = 0
    sent = heard = 0

    async def guest(xen: Domain) -> None:
        nonlocal heard, most
        with xen.events.alloc_unbound(0) as port:
            await asyncio.sleep(1)  # dom0 has bound by then
            schedule.arm()
            port.notify()
            before = 0
            while heard < events:
                count = await port.wait()
                heard = sent  # as any driver does: look at what the event was about
                most, before = max(most, count - before), count

    async def dom0(xen: Domain) -> None:
        nonlocal sent
        await asyncio.sleep(0.5)  # the guest has allocated its port by then
        with xen.events.bind_interdomain(1, 2) as port:
            await port.wait()  # binding's own event
            await port.wait()  # the guest is ready
            for _ in range(events):
                sent += 1
                port.notify()
                await asyncio.sleep(0)

    machine = Machine(tape=schedule if seed is None else Seeded(seed), explore=True)
    machine.boot("guest", guest, kernel=lower_half)
    machine.boot("dom0", dom0)
    try:
        machine.run()
    finally:
        assert not schedule.rest, "the run did not go as the schedule says"
    return most


def test_fault_1_an_unmask_that_tests_the_mask_loses_what_came_while_masked() -> None:
    """The second event stays pending, so Xen drops the third: the port is dead from then on."""
    with pytest.raises(BlockedForever, match=r"guest main.* waits for port 2"):
        hear(3, COMES_BEFORE_UNMASK, UnmaskTestsMask)


def test_fault_2_a_handler_that_clears_upcall_pending_hides_the_event_from_block() -> None:
    with pytest.raises(BlockedForever, match=r"guest main.* waits for port 2"):
        hear(1, COMES_BEFORE_CLI, UpcallClearsPending)


def test_fault_4_an_upcall_between_the_look_and_hlt_is_slept_through() -> None:
    with pytest.raises(BlockedForever, match=r"guest main.* waits for port 2"):
        hear(1, COMES_BEFORE_HLT, SleepsWithInterruptsOn)


def test_fault_3_alone_loses_nothing_but_a_busy_peer_holds_the_demux() -> None:
    """One pass delivers the same port again and again, for as long as its peer keeps sending."""
    assert hear(6, COMES_THROUGHOUT_THE_DEMUX, DemuxLeavesUnmasked) == 6
    assert hear(6, COMES_THROUGHOUT_THE_DEMUX, Solo5) == 1


@pytest.mark.parametrize(
    ("events", "steps"),
    [
        pytest.param(1, COMES_BEFORE_HLT, id="before hlt"),
        pytest.param(1, COMES_BEFORE_CLI, id="before cli"),
        pytest.param(3, COMES_BEFORE_UNMASK, id="before unmask"),
        pytest.param(6, COMES_THROUGHOUT_THE_DEMUX, id="throughout the demux"),
    ],
)
def test_the_shipped_lower_half_survives_each_of_these_schedules(events: int, steps: Steps) -> None:
    assert hear(events, steps, Solo5) == 1


@pytest.mark.parametrize("lower_half", [UnmaskTestsMask, SleepsWithInterruptsOn])
def test_faults_1_and_4_hide_as_long_as_nothing_comes_in_between(lower_half: type[Kernel]) -> None:
    """Why it took experts a week."""
    assert hear(3, [], lower_half) == 1


def loses(lower_half: type[Kernel], seed: int) -> bool:
    try:
        hear(4, [], lower_half, seed)
    except BlockedForever:
        return True
    return False


@pytest.mark.once
@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.long)])
def test_chance_finds_the_faults_and_never_one_in_the_shipped_lower_half(count: int) -> None:
    """Random schedules, preempting anywhere, the same in every run of this test."""
    seeds = range(count)
    assert not any(loses(Solo5, seed) for seed in seeds)
    for faulty in (UnmaskTestsMask, UpcallClearsPending, SleepsWithInterruptsOn):
        assert any(loses(faulty, seed) for seed in seeds), faulty.__name__
    assert not any(loses(DemuxLeavesUnmasked, seed) for seed in seeds)
