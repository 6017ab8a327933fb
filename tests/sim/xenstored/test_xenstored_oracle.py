"""Xen's own xenstored as the witness against the simulated one: see docs/truth.md."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from support.drawn import by_turns, drawn
from xen_oracle import mutants
from xenstored_oracle import build, compare, planted, random_programs
from xenstored_oracle.program import Kind, Program, Step
from xenstored_oracle.search import search
from xenstored_oracle.simulated import Simulated
from xenstored_oracle.stored import Stored
from xenstored_oracle.world import Limits

from activations.abi.xs_wire import HEADER, REQ_PROD, MessageType

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(300),  # the first test waits for what is fetched
]


@pytest.fixture(scope="module")
def library() -> Path:
    """The witness."""
    return build.library()


def asks(client: int, kind: MessageType, payload: bytes) -> Step:
    return Step(Kind.ASK, client, data=HEADER.pack(kind, 7, 0, len(payload)) + payload)


@pytest.mark.parametrize(("seed", "requests"), [(2020, 20_000), *drawn(1, 100_000)])
def test_the_simulated_xenstored_never_differs_from_xens(
    library: Path, seed: int, requests: int
) -> None:
    done, found = search(library, Simulated, requests, seed)
    assert found is None, str(compare.shrunk(library, Simulated, found))
    assert done >= requests


@pytest.mark.parametrize("first", [0, *by_turns(5, range(1, 6))])
def test_a_fault_that_is_planted_in_the_simulated_xenstored_is_seen(
    library: Path, tmp_path: Path, first: int
) -> None:
    """Every sixth of them, from this one on."""
    command = ("xenstored_oracle", "--no-shrinking", "--requests", "50_000")
    assert len(planted.FAULTS) >= 30
    assert not mutants.unseen(planted.FAULTS[first::6], tmp_path, *command)


def test_a_program_of_a_number_is_always_the_same() -> None:
    one, same, other = (random_programs.program(seed) for seed in (7, 7, 8))
    assert one == same
    assert one != other


class Deaf(Simulated):
    """The simulated one, but that it does not hear of a domain's shutdown."""

    def shut_down(self, domid: int) -> None:
        pass


def test_a_difference_is_shrunk_to_what_it_takes(library: Path) -> None:
    """Somebody who watches for it, a domain that is introduced, and the shutdown."""
    programs = random_programs.programs(seed=1)
    found = next(filter(None, (compare.run(library, Deaf, program) for program in programs)))
    small = compare.shrunk(library, Deaf, found)
    kinds = [step.kind for step in small.program.steps]
    assert Kind.SHUT_DOWN in kinds
    assert len(kinds) <= 6, str(small)


def test_a_difference_is_told_with_its_program_and_both_answers(library: Path) -> None:
    steps = [
        Step(Kind.CONNECT, 0),
        asks(0, MessageType.WATCH, b"@releaseDomain\0token\0"),
        Step(Kind.TAKE, 0),
        Step(Kind.CREATE, 1),
        asks(0, MessageType.INTRODUCE, b"1\x001\x002\0"),
        Step(Kind.TAKE, 0),
        Step(Kind.SHUT_DOWN, 1),
        Step(Kind.TAKE, 0),
    ]
    found = compare.run(library, Deaf, Program(Limits(), steps))
    assert str(found).splitlines() == [
        "differs: TAKE: what client 0 is told",
        str(Limits()),
        "  client 0 connect",
        "  client 0 ask WATCH '@releaseDomain\\0token\\0' #7",
        "  client 0 take",
        "  domain 1 create",
        "  client 0 ask INTRODUCE '1\\01\\02\\0' #7",
        "  client 0 take",
        "  domain 1 shut_down",
        "  client 0 take",
        "Xen's:   WATCH_EVENT '@releaseDomain\\0token\\0' #0",
        "another: nothing",
    ]


class Spoilt(Simulated):
    """The simulated one, but for one thing."""

    spoils = ""

    def kick(self, domid: int) -> None:
        super().kick(domid)
        page = self.page(domid)
        assert page
        if self.spoils == "a reply":
            page[1024] ^= 1
        elif self.spoils == "an index":
            page[REQ_PROD] ^= 1
        elif self.spoils == "an exception":
            raise KeyError(domid)

    def account(self, domid: int) -> str:
        return super().account(domid) + "0" * (self.spoils == "a count")

    def take(self, client: int) -> bytes:
        said = super().take(client)
        return said[:-1] if self.spoils == "an answer" else said

    def gone(self, client: int) -> bool:
        return super().gone(client) or self.spoils == "a client"


@pytest.mark.parametrize(
    ("spoils", "told"),
    [
        ("a reply", "d1's replies"),
        ("an index", "d1's req_prod"),
        ("an exception", "a crash"),
        ("a count", "what d1 has"),
        ("an answer", "what client 0 is told"),
        ("a client", "whether client 0 is heard"),
    ],
)
def test_every_kind_of_answer_is_compared(
    library: Path, monkeypatch: pytest.MonkeyPatch, spoils: str, told: str
) -> None:
    monkeypatch.setattr(Spoilt, "spoils", spoils)
    introduced = asks(0, MessageType.INTRODUCE, b"1\x001\x002\0")
    steps = [Step(Kind.CONNECT, 0), Step(Kind.CREATE, 1), introduced, Step(Kind.PUT, 1)]
    found = compare.run(library, Spoilt, Program(Limits(), steps))
    assert found
    assert found.key[1] == told


def test_where_xens_xenstored_would_end_it_is_said(library: Path) -> None:
    """It asserts that a domain has no transaction that it works in when all of them are dropped."""
    start = asks(0, MessageType.TRANSACTION_START, b"\0")
    reset = asks(0, MessageType.RESET_WATCHES, b"\0")
    within = reset._replace(data=HEADER.pack(MessageType.RESET_WATCHES, 7, 1, 1) + b"\0")
    program = Program(Limits(), [Step(Kind.CONNECT, 0), start, within])
    found = compare.run(library, Simulated, program)
    assert found
    assert found.key == ("ASK", "a crash")
    assert "conn->transaction == NULL" in found.xen
    for other in islice(random_programs.programs(seed=1), 3):
        assert compare.run(library, Simulated, other) is None


def test_two_of_xens_xenstoreds_share_nothing(library: Path) -> None:
    one = Stored(library, Limits())
    one.connect()
    one.ask(0, asks(0, MessageType.WRITE, b"/a\0value").data)
    one.close()
    another = Stored(library, Limits())
    assert [node.path for node in another.tree()] == [b"/", b"/tool", b"/tool/xenstored"]
    another.close()
