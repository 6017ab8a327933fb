"""A bare guest of ours on a real Xen, as the witness against the simulator: see docs/truth.md."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from probe import compare, june, module, planted, simulated
from probe.compare import Recording
from probe.halves import HALVES, Half
from probe.lab import Probe
from probe.module import Answer
from probe.programs import GUESTS, Asked, Guest, asked, begin, programs
from probe.steps import OF_GRANTS, ProbeKind, Timer
from support import probed
from support.drawn import by_turns, drawn
from xen_oracle.mutants import SIMULATOR
from xen_oracle.program import Kind, Step

from activations.abi import event_channel as abi
from xen_kernel import decide
from xen_sim.explore.finding import LOST_WAKEUP

# Without a Xen


def test_a_program_of_a_number_is_always_the_same() -> None:
    one, same, other = (next(programs(GUESTS[2], seed)) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_programs_have_every_kind_of_step_and_every_timer() -> None:
    steps = [step for program in islice(programs(GUESTS[2], 1), 200) for step in program]
    assert {step.kind for step in steps} >= {*ProbeKind} - {*OF_GRANTS}
    assert {step.number for step in steps if step.kind == ProbeKind.TIMER} == {*Timer}
    assert {step.number for step in steps if step.kind == Kind.EVENT_CHANNEL_OP} >= {*abi.Op}


def test_a_machine_that_could_be_preempted_answers_the_same() -> None:
    for guest in GUESTS:
        steps = [step for program in islice(programs(guest, 3), 10) for step in program]
        plain, explored = (
            simulated.answers(
                steps, guest.delivery, guest.vcpus, guest.max_event_channels, explore=explore
            )
            for explore in (False, True)
        )
        assert plain == explored, guest


def deaf(asked: Sequence[Asked]) -> list[tuple[int, list[Answer]]]:
    """A Xen of its own: the simulator, but that a port 2 is said to be 3."""
    two, three = abi.BIND_IPI.pack(0, 2), abi.BIND_IPI.pack(0, 3)
    heard = [simulated.answers(steps, guest.delivery, guest.vcpus) for guest, steps in asked]
    return [
        (1, [each._replace(argument=three) if each.argument == two else each for each in answers])
        for answers in heard
    ]


def test_a_difference_is_shrunk_and_told() -> None:
    """Two ports that are bound, the second of them an IPI of vCPU 0's."""
    guest = Guest(1)
    bind = Step(Kind.EVENT_CHANNEL_OP, 0, 0, abi.Op.BIND_IPI, abi.BIND_IPI.pack(0, 0))
    rest = random.Random(1).sample(next(programs(guest, 5))[1:], 60)
    quiet = [step for step in rest if step.kind in (Kind.STORE, *ProbeKind)]
    steps = [*begin(1), *quiet[:15], bind, *quiet[15:], bind]
    (recording,) = compare.record(deaf, [(guest, steps)])
    found = next(compare.differences(recording))
    assert str(compare.shrunk(deaf, found)).splitlines() == [
        "differs: bind_ipi, argument",
        "Guest(vcpus=1, delivery='vector', max_event_channels=1023, peer=False)",
        "  v0 begin 0x0",
        "  v0 bind_ipi vcpu=0 port=0",
        "  v0 bind_ipi vcpu=0 port=0",
        "Xen:       00000000 03000000",
        "simulator: 00000000 02000000",
    ]


def test_a_difference_is_one_if_it_comes_again() -> None:
    steps = [*begin(1), *[Step(Kind.EVENT_CHANNEL_OP, 0, 0, abi.Op.BIND_IPI, bytes(8))] * 2]

    def healed(asked: Sequence[Asked]) -> list[tuple[int, list[Answer]]]:
        return [
            (1, simulated.answers(steps, guest.delivery, guest.vcpus)) for guest, steps in asked
        ]

    misheard = compare.record(deaf, [(Guest(1), steps)])
    assert compare.agree(healed, misheard) == len(steps)
    with pytest.raises(AssertionError, match="differs: bind_ipi"):
        compare.agree(deaf, misheard)


@pytest.mark.parametrize(
    "fault", [*planted.FAULTS, *planted.OF_GRANTS], ids=lambda fault: fault.name
)
def test_a_fault_that_is_planted_later_has_its_place(fault: planted.Planted) -> None:
    assert (SIMULATOR / fault.file).read_text().count(fault.old) == 1


# On a real Xen


probe = probed.probe


@pytest.fixture(scope="module")
def recordings(probe: Probe) -> list[Recording]:
    """Of each kind of guest, some programs; of two vCPUs fewer, as they take turns."""
    some = [asked(guest, 6_400 if guest.vcpus == 1 else 700, seed=2020) for guest in GUESTS]
    return compare.record(probe.programs, some)


@pytest.mark.lab
def test_the_simulator_never_differs_from_a_real_xen(
    probe: Probe, recordings: Sequence[Recording]
) -> None:
    assert compare.agree(probe.programs, recordings) >= 20_000


@pytest.mark.lab
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", drawn(1))
def test_the_simulator_never_differs_in_many_steps(probe: Probe, seed: int) -> None:
    some = [asked(guest, 10_000, seed) for guest in GUESTS]
    assert compare.agree(probe.programs, compare.record(probe.programs, some)) >= 50_000


@pytest.mark.lab
def test_a_fault_that_is_planted_in_the_simulator_is_seen(
    recordings: Sequence[Recording], tmp_path: Path
) -> None:
    """Each of them, in what was recorded."""
    assert not probed.unseen(planted.FAULTS, recordings, tmp_path)


@pytest.mark.lab
def test_hlt_with_interrupts_off_takes_the_domain_down(probe: Probe) -> None:
    report = probe.run(Guest(1), module.module(module.HLT, "vector", 1))
    assert report.state == "running", "it never came back"
    assert "---s--" in report.printed


SOLO5 = [half for half in HALVES if half.name == "solo5"]


@pytest.mark.lab
def test_each_fault_of_june_2020_loses_a_wakeup_and_the_right_lower_half_none(
    probe: Probe,
) -> None:
    """A second event before each instruction. Fault 3 loses none: it holds the demux."""
    swept = june.sweeps(probe, "vector", SOLO5[:5])
    print(*swept, sep="\n")
    assert [sweep.half for sweep in swept] == SOLO5[:5]
    assert min(sweep.places for sweep in swept) > 50
    assert {1, 2} <= swept[0].taken, "some came in time for the first demux"
    assert [sweep.half.fault for sweep in swept if sweep.lost] == [1, 2, 4]


@pytest.mark.long
@pytest.mark.lab
def test_the_callback_vector_needs_a_handler_that_clears_and_loses_by_the_other_faults(
    probe: Probe,
) -> None:
    swept = june.sweeps(probe, "callback", SOLO5[:5])
    assert [sweep.half.fault for sweep in swept if sweep.lost] == [1, 4]


NOT_ON_XEN = {Half("mini_os", 1)}
"""Lost where the upcall comes some instructions later than its event; here it is taken at once."""


@pytest.mark.timeout(3600)
@pytest.mark.lab
@pytest.mark.parametrize("first", by_turns(3, range(3)))
@pytest.mark.usefixtures("kernel_cache")
def test_what_the_engine_says_of_a_lower_half_in_c_a_real_xen_says_too(
    probe: Probe, first: int
) -> None:
    """The same files, two events for one port. Every third of them from this one on."""
    halves = HALVES[first::3]
    swept = june.sweeps(probe, "vector", halves)
    on_xen = {sweep.half for sweep in swept if sweep.lost}
    verdicts = [decide(june.SAME_PORT.scenario(half, "vector")) for half in halves]
    kinds = {
        half: [each.finding.kind for each in verdict.found]
        for half, verdict in zip(halves, verdicts, strict=True)
    }
    assert on_xen == {half for half in halves if LOST_WAKEUP in kinds[half]} - NOT_ON_XEN
