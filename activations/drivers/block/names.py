"""What a disk is called in its guest, and the number that stands for the name.

Source: docs/man/xen-vbd-interface.7.pandoc of Xen's sources. Of the names there, those that Linux
gives to Xen's disks: `xvda` to `xvdp` and beyond, and their partitions, as `xvda1`.
"""

from __future__ import annotations

import re

XVD_MAJOR = 202
"""Linux's block major for the first 16 disks."""
EXTENDED = 1 << 28
"""Set in the numbers of the others."""
DISKS = 1 << 20
_NAME = re.compile(r"xvd([a-z]{1,5})([1-9][0-9]{0,2})?")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def devid_of(name: str) -> int:
    """The number of a disk or a partition. Raises `ValueError` for what is no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a disk: they run from xvda on")
    disk = 0
    for letter in found[1]:
        disk = disk * 26 + _LETTERS.index(letter) + 1
    disk -= 1
    partition = int(found[2] or 0)
    if disk < 16 and partition < 16:
        return XVD_MAJOR << 8 | disk << 4 | partition
    if disk >= DISKS:
        raise ValueError(f"{name!r} is no name of a disk: there are {DISKS} at most")
    if partition > 255:
        raise ValueError(f"{name!r}: a disk has 255 partitions at most")
    return EXTENDED | disk << 8 | partition


def name_of(devid: int) -> str:
    """The name that goes with a number; `disk 7` for a number that has none."""
    if devid >> 8 == XVD_MAJOR:
        disk, partition = devid >> 4 & 15, devid & 15
    elif devid & EXTENDED and devid < EXTENDED << 1:
        disk, partition = devid >> 8 & (DISKS - 1), devid & 255
    else:
        return f"disk {devid}"
    return f"xvd{_letters(disk)}{partition or ''}"


def _letters(disk: int) -> str:
    letters = ""
    disk += 1
    while disk:
        disk, letter = divmod(disk - 1, 26)
        letters = _LETTERS[letter] + letters
    return letters
