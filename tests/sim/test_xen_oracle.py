"""Xen's own C as the witness against the simulator's event channels: see docs/truth.md."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from support.debian import source
from support.drawn import by_turns, drawn
from support.needs import need_compiler
from xen_oracle import build, compare, mutants, planted, random_programs
from xen_oracle.facts import FACTS, Fact
from xen_oracle.program import Kind, Program, Step, encoded, read
from xen_oracle.search import search
from xen_oracle.simulator import LACKS, Explored, Simulated
from xen_oracle.world import Domain
from xen_oracle.xen import Library, Xen, copied

from activations.abi import event_channel as abi

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(300),  # the first test waits for what is fetched
]

WHAT = "Xen's own event channel code"


@pytest.fixture(scope="module")
def folder(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache
    return pytestconfig.cache.mkdir("xen-oracle")


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    need_compiler(WHAT)
    return build.library(folder, lambda folder: source(WHAT, "xen"))


@pytest.fixture(scope="module")
def library(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The witness."""
    return copied(path, tmp_path_factory.mktemp("witness"))


@pytest.fixture(scope="module")
def another(path: Path) -> compare.Make:
    """Xen's C once more, in the place of a simulator."""
    return partial(Xen, Library(path))


def op(domain: int, command: abi.Op, *fields: int, vcpu: int = 0) -> Step:
    data = getattr(abi, command.name).pack(*fields)
    return Step(Kind.EVENT_CHANNEL_OP, domain, vcpu, command, data)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.rule.__name__)
def test_xens_code_answers_so(fact: Fact, another: compare.Make) -> None:
    fact.hold(another)


def test_xens_code_does_not_differ_from_itself(library: Library, another: compare.Make) -> None:
    for program in islice(random_programs.programs(seed=2020), 300):
        assert (found := compare.run(library, another, program)) is None, str(found)


def test_a_program_of_a_number_is_always_the_same() -> None:
    one, same, other = (random_programs.program(seed) for seed in (7, 7, 8))
    assert one == same
    assert encoded(one.steps) != encoded(other.steps)


@pytest.mark.parametrize("count", [3, pytest.param(6, marks=pytest.mark.long)])
def test_most_faults_in_xens_code_are_seen(
    count: int, folder: Path, path: Path, tmp_path: Path
) -> None:
    """Some of the faults that are planted by rule. Those that are not seen are in what no guest
    sees, or in what takes two processors: docs/truth.md has the figures for all."""
    faults = random.Random(1).sample(list(mutants.of_xen(folder / "source")), 6)[:count]
    seen = [
        mutants.xen_is_seen(folder / "source", fault, tmp_path / str(number), steps=50_000)
        for number, fault in enumerate(faults)
    ]
    assert seen.count(True) * 3 >= 2 * count, dict(
        zip([fault.name for fault in faults], seen, strict=True)
    )


class Deaf(Xen):
    """Xen's C, but that it never hears of the third event that is sent to a port."""

    def __init__(self, library: Library, domains: Sequence[Domain], frames: int) -> None:
        super().__init__(library, domains, frames)
        self._sent = 0

    def event_channel_op(self, domain: int, vcpu: int, command: int, argument: bytearray) -> int:
        self._sent += command == abi.Op.SEND
        if command == abi.Op.SEND and self._sent == 3:
            return 0
        return super().event_channel_op(domain, vcpu, command, argument)


def test_a_difference_is_shrunk_to_what_it_takes(library: Library, path: Path) -> None:
    """Two sends that come to nothing, a port that one can be sent to, and the third send."""
    deaf = partial(Deaf, Library(path))
    programs = random_programs.programs(seed=1)
    found = next(filter(None, (compare.run(library, deaf, program) for program in programs)))
    small = compare.shrunk(library, deaf, found)
    assert [read(step).split()[1] for step in small.program.steps].count("send") == 3
    assert len(small.program.steps) <= 6, str(small)


def test_a_difference_is_told_with_its_program_and_both_states(
    library: Library, path: Path
) -> None:
    send = op(0, abi.Op.SEND, 1)
    steps = [op(0, abi.Op.BIND_IPI, 0, 0), send, Step(Kind.CONSUME, 0, 0), send, send]
    steps[4:] = [Step(Kind.CONSUME, 0, 0), send]
    found = compare.run(library, partial(Deaf, Library(path)), Program((Domain(),), 1, steps))
    assert str(found).splitlines() == [
        "differs: send, d0's evtchn_upcall_pending of vCPU 0",
        "d0 Domain(vcpus=1, max_event_channels=1023, delivery='vector'), 1 frames each",
        "  d0v0 bind_ipi vcpu=0 port=0",
        "  d0v0 send port=1",
        "  d0v0 consume 0",
        "  d0v0 send port=1",
        "  d0v0 consume 0",
        "  d0v0 send port=1",
        "Xen's C:  0x00000001",
        "another:  0x00000000",
        "Xen's C, d0: ports: 1 ipi 0 vcpu 0",
        "Xen's C, d0: pending: [1]",
        "Xen's C, d0: vCPU 0: upcall_pending 1, upcall_mask 0, sel [0]",
        "another, d0: ports: 1 ipi 0 vcpu 0",
    ]


class Spoilt(Xen):
    """Xen's C, but for one answer that is another."""

    spoils = ""

    def event_channel_op(self, domain: int, vcpu: int, command: int, argument: bytearray) -> int:
        result = super().event_channel_op(domain, vcpu, command, argument)
        if command == abi.Op.BIND_VIRQ:
            match self.spoils:
                case "result":
                    return result + 1
                case "argument":
                    argument[8] ^= 2
                case "memory":
                    self.memory(1)[0][4095] = 1
                case "frame":
                    self.memory(1)[2][0] = 1
                case "status":
                    argument = bytearray(abi.BIND_VCPU.pack(1, 1))
                    super().event_channel_op(domain, vcpu, abi.Op.BIND_VCPU, argument)
                case "exception":
                    raise KeyError(command)
        return result

    def raise_virq(self, domain: int, vcpu: int, virq: int) -> None:
        if self.spoils != "signals":
            super().raise_virq(domain, vcpu, virq)


@pytest.mark.parametrize(
    ("spoils", "told"),
    [
        ("result", "result"),
        ("argument", "argument"),
        ("memory", "d1's evtchn_mask"),
        ("frame", "d1's frame 1"),
        ("status", "status of d1's port 1"),
        ("exception", "exception"),
        ("signals", "d1's evtchn_upcall_pending"),
    ],
)
def test_every_kind_of_answer_is_compared(
    library: Library, path: Path, monkeypatch: pytest.MonkeyPatch, spoils: str, told: str
) -> None:
    monkeypatch.setattr(Spoilt, "spoils", spoils)
    virq = abi.Virq.CONSOLE
    steps = [op(1, abi.Op.BIND_VIRQ, virq, 0, 0), Step(Kind.RAISE_VIRQ, 1, 0, virq)]
    program = Program((Domain(), Domain(2)), 2, steps)
    found = compare.run(library, partial(Spoilt, Library(path)), program)
    assert found
    assert found.key[1].startswith(told)


def test_where_xens_code_would_crash_the_program_ends_with_what_it_says(
    library: Library, another: compare.Make
) -> None:
    """No guest can bring it there: here Xen itself raises a VIRQ that there is not."""
    steps = [Step(Kind.RAISE_VIRQ, 0, 0, abi.NR_VIRQS)]
    found = compare.run(library, another, Program((Domain(),), 1, steps))
    assert found
    assert found.key == ("raise_virq", "crash")
    assert "ASSERT: virq < NR_VIRQS" in found.xen
    assert compare.run(library, another, random_programs.program(1)) is None


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.rule.__name__)
def test_the_simulator_answers_as_xens_code_does(fact: Fact) -> None:
    fact.hold(Simulated)
    fact.hold(Explored)


@pytest.mark.parametrize(
    ("seed", "machine", "steps"),
    [
        (2020, Simulated, 100_000),
        (2020, Explored, 30_000),
        *drawn(1, Simulated, 300_000),
        *drawn(1, Explored, 60_000),
    ],
)
def test_the_simulator_never_differs_from_xens_code(
    library: Library, seed: int, machine: type[Simulated], steps: int
) -> None:
    """One step in six is a guest's own."""
    done, found = search(library, machine, steps, seed, without=LACKS)
    assert found is None, str(compare.shrunk(library, machine, found))
    assert done >= steps


@pytest.mark.parametrize("first", [0, *by_turns(5, range(1, 6))])
def test_a_fault_that_is_planted_in_the_simulator_is_seen(
    path: Path, tmp_path: Path, first: int
) -> None:
    """Every sixth of them, from this one on."""
    assert len(planted.FAULTS) >= 39
    assert not mutants.unseen(planted.FAULTS[first::6], tmp_path)
