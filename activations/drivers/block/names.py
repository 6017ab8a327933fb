"""What a disk is called in its guest, and the number that stands for the name.

Source: docs/man/xen-vbd-interface.7.pandoc of Xen's sources. There a number has its disk and its
partition in one of several numberings, and each numbering has a letter for its disks: `xvd`, `sd`,
`hd`. To a guest of today these are only numbers: Linux calls hda and sda `xvda` too. So of two
numbers that say the same disk a guest can have one.

Names here are `xvd` names, the only ones that Linux gives: `xvda` to `xvdp` and beyond, and their
partitions, as `xvda1`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

DISKS = 1 << 20
EXTENDED = 1 << 28
"""Set in the numbers of disks and partitions for which a major has no room."""
_NAME = re.compile(r"xvd([a-z]{1,5})([1-9][0-9]{0,2})?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Place(NamedTuple):
    """What a number says, in any numbering: which disk, and which of its partitions, 0 for all."""

    disk: int
    partition: int

    def overlaps(self, other: Place) -> bool:
        """Whether the two cannot both be a guest's."""
        whole = not (self.partition and other.partition)
        return self.disk == other.disk and (whole or self.partition == other.partition)


class Major(NamedTuple):
    """A numbering as Linux's block majors have it: `major << 8 | disk << bits | partition`."""

    kind: str
    first: int
    """The disk that it begins with."""
    bits: int
    """Of the partition."""


XVD_MAJOR = 202
_SD_LATER = (*range(65, 72), *range(128, 136))
_HD = (3, 22, 33, 34, 56, 57, 88, 89, 90, 91)
MAJORS = {
    XVD_MAJOR: Major("xvd", 0, 4),
    8: Major("sd", 0, 4),
    **{major: Major("sd", 16 * index, 4) for index, major in enumerate(_SD_LATER, 1)},
    **{major: Major("hd", 2 * index, 6) for index, major in enumerate(_HD)},
}
"""Of the `sd` and `hd` ones, all but 8, 3 and 22 are old, and not to be given any more."""


def devid_of(name: str) -> int:
    """The number of a disk or a partition. Raises `ValueError` for anything else."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a disk: that is like xvda, xvdb or xvda1")
    disk = 0
    for letter in found[1]:
        disk = disk * 26 + _LETTERS.index(letter) + 1
    disk -= 1
    partition = int(found[2] or 0)
    if disk < 16 and partition < 16:
        return XVD_MAJOR << 8 | disk << 4 | partition
    if disk >= DISKS:
        raise ValueError(f"{name!r} is not the name of a disk: a guest has {DISKS} disks at most")
    if partition > 255:
        raise ValueError(f"{name!r}: a disk has 255 partitions at most")
    return EXTENDED | disk << 8 | partition


def place_of(devid: int) -> Place | None:
    """The disk and the partition that a number says; None for one of no numbering."""
    if EXTENDED <= devid < EXTENDED << 1:
        return Place(devid >> 8 & (DISKS - 1), devid & 255)
    major = MAJORS.get(devid >> 8)
    if major is None:
        return None
    disk, partition = divmod(devid & 255, 1 << major.bits)
    return Place(major.first + disk, partition)


def name_of(devid: int) -> str:
    """The name that goes with a number, as `hda` with 768; `disk 7` for a number of none."""
    place = place_of(devid)
    if place is None:
        return f"disk {devid}"
    kind = "xvd" if devid & EXTENDED else MAJORS[devid >> 8].kind
    return f"{kind}{_letters(place.disk)}{place.partition or ''}"


def in_the_way(devid: int, taken: Collection[int]) -> int | None:
    """The one of these numbers for which a guest cannot have this one too."""
    place = place_of(devid)
    for other in taken:
        beside = place_of(other)
        if devid == other or (place and beside and place.overlaps(beside)):
            return other
    return None


def free_name(taken: Collection[int]) -> str | None:
    """The first disk's name, from `xvda` on, that collides with none of these numbers; None where
    all are taken."""
    disks = {place.disk for place in map(place_of, taken) if place}
    disk = next((number for number in range(DISKS) if number not in disks), None)
    return None if disk is None else f"xvd{_letters(disk)}"


def _letters(disk: int) -> str:
    letters = ""
    disk += 1
    while disk:
        disk, letter = divmod(disk - 1, 26)
        letters = _LETTERS[letter] + letters
    return letters
