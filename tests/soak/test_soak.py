"""The soak in its short form, and whether it finds what it is there for."""

from __future__ import annotations

import sys
from random import Random

import pytest

from activations.drivers.block import MemoryDisk
from activations.drivers.block.disks import Buffers
from activations.sring import BackRing

from . import flat, kills
from .__main__ import ALL, main
from .hostile import Broken, Subject, feed
from .live import LIVE
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
    assert ALL[name].make()(Random(3)) == 500


@pytest.mark.parametrize("victim", kills.VICTIMS)
@pytest.mark.parametrize("name", kills.SCENES)
def test_either_peer_may_be_killed_at_any_step(name: str, victim: str) -> None:
    assert kills.kill(name, victim, seed=2, batch=0).kills >= 3


def test_events_are_all_taken_and_memory_is_flat() -> None:
    assert flat.events(2_000, looks=4)[0] == 2_000


def test_schedules_leave_nothing_in_memory() -> None:
    assert flat.schedules(300, seed=2, looks=4)[0] == 300


# Whether it would be found


def test_a_ring_that_believes_its_peer_is_found_with_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def claimed(ring: BackRing) -> int:
        return (ring._load(0) - ring._answered) & 0xFFF

    monkeypatch.setattr(BackRing, "_claimed", claimed)
    with pytest.raises(Broken, match=r"--only back-ring --seed 2 --batch \d"):
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
    with pytest.raises(BaseException, match=r"lost a write|unhandled errors"):
        kills.kill("disk", "guest", seed=2, batch=0)


# The command


def test_the_command_says_what_it_fed_and_repeats_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["soak", "kills", "--only", "vchan-dom0", "--many", "2", "--batch", "7"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    assert "✓ vchan, dom0 killed" in capsys.readouterr().out


def test_the_command_ends_with_1_and_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kills, "MemoryDisk", Forgetful)
    monkeypatch.setattr(sys, "argv", ["soak", "kills", "--only", "disk-guest", "--many", "2"])
    assert main() == 1
    assert "kills --only disk-guest --seed 1 --batch 0" in capsys.readouterr().out
