"""The soak in its short form, and whether it finds what it is there for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from random import Random

import pytest
from support.parameters import one_in

from activations.drivers.block import MemoryDisk
from activations.drivers.block.disks import Buffers
from activations.sring import BackRing

from . import at_once, flat, kills
from .__main__ import ALL, KINDS, main
from .hostile import Broken, Subject, feed
from .live import LIVE
from .peers import LostWrite, Sectors
from .subjects import SUBJECTS

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", [each.name for each in SUBJECTS])
def test_hostile_bytes_are_a_typed_error_or_nothing(name: str) -> None:
    *_, fed = feed(ALL[name], 300, seed=2)
    assert fed.inputs >= 300


@pytest.mark.parametrize("name", [each.name for each in LIVE])
def test_a_live_driver_stands_a_peer_that_scribbles_and_its_neighbours_do_not_notice(
    name: str,
) -> None:
    assert ALL[name].make()(Random(3)) > 50


@pytest.mark.parametrize("name", kills.KINDS)
def test_either_peer_may_be_killed_at_any_step(name: str) -> None:
    assert kills.kill(name, KINDS[name], seed=4, batch=0).kills >= 3


@pytest.mark.parametrize("name", one_in(3, at_once.KINDS))
def test_several_things_may_go_wrong_at_once(name: str) -> None:
    assert kills.kill(name, KINDS[name], seed=2, batch=0).kills >= 1


def test_events_are_all_taken_and_memory_is_flat() -> None:
    assert flat.events(2_000, looks=4)[0] == 2_000


@pytest.mark.parametrize("name", flat.SEARCHES)
def test_schedules_leave_nothing_in_memory(name: str) -> None:
    many = 300 // flat.SEARCHES[name].one_in
    assert flat.schedules(name, many, seed=2, looks=4)[0] == many


def test_a_blow_falls_whole_unless_an_answer_comes_in_between() -> None:
    scene = kills.Scene(KINDS["vchan-both"], Random(2))
    scene.run()
    assert scene.tape.deeds >= 2 * scene.tape.kills >= 2


def test_many_disks_have_an_answer_when_the_last_of_them_has() -> None:
    heard: list[int] = []
    scene = kills.Scene(KINDS["vchan-both"], Random(2))
    scene.answered = heard.append  # type: ignore[method-assign]
    shares: list[at_once.Share] = []
    shares += (at_once.Share(scene, shares) for _ in range(3))
    for share, asked in ((0, 1), (1, 1), (2, 0), (2, 1), (0, 2)):
        shares[share].answered(asked)
    assert heard == [-1, -1, 0, 1, 1]
    scene.machine.close()


# Whether it would be found


def believes(ring: BackRing) -> int:
    """What the peer claims, whatever that is."""
    return (ring._load(0) - ring._answered) & 0xFFF


def test_a_ring_that_believes_its_peer_is_found_with_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BackRing, "_claimed", believes)
    with pytest.raises(Broken, match=r"hostile --only back-ring --seed 2 --batch \d"):
        for _ in feed(ALL["back-ring"], 2_000, seed=2):
            pass


def test_a_subject_that_keeps_what_it_was_fed_is_found() -> None:
    kept: list[bytes] = []

    def keep(random: Random) -> int:
        kept.extend(random.randbytes(40) for _ in range(1_000))
        return 1_000

    subject = Subject("keeps", "what it was fed", lambda: keep)
    with pytest.raises(Broken, match="memory grew"):
        for _ in feed(subject, 200_000, seed=1):
            pass


class Forgetful(MemoryDisk):
    """Says that it has written, and sometimes has not."""

    def write(self, offset: int, buffers: Buffers) -> None:
        if offset % 1536:
            super().write(offset, buffers)


def test_a_disk_that_loses_a_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "MemoryDisk", Forgetful)
    with pytest.raises(LostWrite, match=r"sector .* holds write 0, and .* was acknowledged"):
        kills.kill("disk-guest", KINDS["disk-guest"], seed=2, batch=0)


def test_where_not_all_is_heard_a_sector_may_be_further_and_never_less_far() -> None:
    for all_heard in (True, False):
        sectors = Sectors(all_heard=all_heard)
        sectors.wrote(0, 3)
        sectors.writing(0, 4)
        sectors.found(0, 4)
        with pytest.raises(LostWrite):
            sectors.found(0, 3)
    sectors.found(0, 7)
    with pytest.raises(LostWrite):
        sectors.found(0, 4)


# The command


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Its exit status, after these words."""

    def status(words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["soak", *words.split()])
        return main()

    return status


def test_the_command_says_what_it_killed(
    soak: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert soak("kills --only vchan-dom0 --many 2 --batch 7") == 0
    assert "✓ vchan-dom0 killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "owner", "name", "faulty"),
    [
        ("kills --only disk-guest --many 2", kills, "MemoryDisk", Forgetful),
        ("hostile --only back-ring --many 2_000", BackRing, "_claimed", believes),
    ],
    ids=["kills", "hostile"],
)
def test_the_line_that_it_ends_with_does_what_broke_again(
    words: str,
    owner: object,
    name: str,
    faulty: object,
    soak: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> list[str]:
        said = capsys.readouterr().out.splitlines()
        begins = next(at for at, line in enumerate(said) if line.startswith("✗ "))
        return said[begins : begins + 2]

    monkeypatch.setattr(owner, name, faulty)
    assert soak(words) == 1
    what, again = broken()
    assert re.fullmatch(rf"  {words.split(' --many')[0]} --seed 1 --batch \d+", again)
    assert soak(again) == 1
    assert broken() == [what, again]


@pytest.mark.parametrize("part", ["hostile", "kills", "schedules"])
def test_to_try_nothing_is_refused(
    part: str, soak: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert soak(f"{part} --only nonesuch") == 1
    assert "begins with 'nonesuch': there are " in capsys.readouterr().err
