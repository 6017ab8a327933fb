"""A disk's number: which disk it says in each of Xen's numberings, and which is free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.drivers.block import names
from activations.drivers.block.names import (
    Place,
    devid_of,
    free_name,
    in_the_way,
    name_of,
    place_of,
)

XVDA_TO_XVDP = [devid_of(f"xvd{letter}") for letter in "abcdefghijklmnop"]


@pytest.mark.parametrize(
    ("name", "devid"),
    [("xvda", 51712), ("xvdb", 51728), ("xvdb1", 51729), ("xvdp15", 51967), ("xvdq", 268439552)],
)
def test_disks_have_the_numbers_of_xens_convention(name: str, devid: int) -> None:
    assert devid_of(name) == devid
    assert name_of(devid) == name


@pytest.mark.parametrize(
    ("devid", "name", "disk", "partition"),
    [
        (202 << 8 | 2 << 4 | 3, "xvdc3", 2, 3),
        (1 << 28 | 16, "xvda16", 0, 16),
        (1 << 28 | 700 << 8 | 255, "xvdzy255", 700, 255),
        (8 << 8 | 15 << 4 | 15, "sdp15", 15, 15),
        (65 << 8, "sdq", 16, 0),
        (71 << 8 | 15 << 4, "sddx", 127, 0),
        (128 << 8 | 1, "sddy1", 128, 1),
        (3 << 8, "hda", 0, 0),
        (3 << 8 | 64 | 63, "hdb63", 1, 63),
        (22 << 8, "hdc", 2, 0),
        (22 << 8 | 64 | 1, "hdd1", 3, 1),
        (33 << 8, "hde", 4, 0),
        (91 << 8 | 64, "hdt", 19, 0),
    ],
)
def test_each_numbering_of_xens_says_a_disk_and_a_partition(
    devid: int, name: str, disk: int, partition: int
) -> None:
    assert place_of(devid) == Place(disk, partition)
    assert name_of(devid) == name


@pytest.mark.parametrize("devid", [0, 1, 255, 7 << 8, 203 << 8, (1 << 28) - 1, 1 << 29, 1 << 40])
def test_a_number_of_no_numbering_says_no_disk_and_is_in_nobodys_way(devid: int) -> None:
    assert place_of(devid) is None
    assert name_of(devid) == f"disk {devid}"
    assert free_name([devid]) == "xvda"
    assert in_the_way(devid_of("xvda"), [devid]) is None
    assert in_the_way(devid, [devid]) == devid


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "xvda"),
        ([768], "xvdb"),
        ([2048], "xvdb"),
        ([51713, 51714], "xvdb"),
        ([1 << 28], "xvdb"),
        ([devid_of("xvda"), devid_of("xvdc")], "xvdb"),
        ([5632, 768], "xvdb"),
        (XVDA_TO_XVDP, "xvdq"),
        ([*XVDA_TO_XVDP, devid_of("xvdq1")], "xvdr"),
    ],
)
def test_a_free_name_is_of_a_disk_that_the_guest_has_in_no_numbering(
    taken: list[int], free: str
) -> None:
    assert free_name(taken) == free


def test_where_all_disks_are_taken_there_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "DISKS", 17)
    assert free_name([*XVDA_TO_XVDP, 65 << 8]) is None


def test_partitions_of_a_disk_are_beside_each_other_and_not_beside_the_whole_of_it() -> None:
    first, second, whole = devid_of("xvda1"), devid_of("xvda2"), devid_of("xvda")
    assert in_the_way(first, [second]) is None
    assert in_the_way(first, [second, first]) == first
    assert in_the_way(whole, [second]) == second
    assert in_the_way(second, [768]) == 768
    assert in_the_way(second, [3 << 8 | 2]) == 3 << 8 | 2


NUMBERS = st.integers(0, (1 << 29) - 1) | st.builds(
    lambda major, minor: major << 8 | minor,
    st.sampled_from(list(names.MAJORS)),
    st.integers(0, 255),
)


@given(st.lists(NUMBERS, max_size=40))
def test_a_free_name_never_collides(taken: list[int]) -> None:
    name = free_name(taken)
    assert name is not None
    assert in_the_way(devid_of(name), taken) is None


@given(NUMBERS)
def test_two_names_are_the_same_only_where_the_numbers_are_in_each_others_way(devid: int) -> None:
    place = place_of(devid)
    if place is not None and name_of(devid).startswith("xvd"):
        assert place_of(devid_of(name_of(devid))) == place
        assert in_the_way(devid_of(name_of(devid)), [devid]) == devid
