"""Who else has an image: locks against each other, and against QEMU; loop devices.

A program that writes to an image has it alone; many may read it.

**flock(2)** is between programs of this package, and others that go by it.

**QEMU** locks bytes of the file, whatever their content: byte 100 + n where it makes
use of permission n, byte 200 + n where no other may. The locks are shared, held by the
open file (OFD locks), and looked for rather than waited for: each end takes its own, then looks
for the other's. What is done here is the same, so each refuses what the other has. Source: QEMU's
qapi/block-core.json (`BlockPermission`) and block/file-posix.c.

**A loop device** on a file does not lock it. The kernel says which files loop devices are on, in
/sys/block/loop*/loop/backing_file, and this is what Xen's own scripts look at before they serve a
file. One that only reads may stay while the file is only read.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from errno import EACCES, EAGAIN, EINVAL, ENOLCK, EOPNOTSUPP
from pathlib import Path

from activations.drivers.block.errors import ImageInUse

READING, WRITING, RESIZING = 0, 1, 3
"""QEMU's numbers for what may be done with a file (2 is to write what was there before)."""
PERMISSIONS = range(4)
USED, NOT_SHARED = 100, 200
FLOCK = struct.Struct("hhqqi0q")
"""`struct flock` (Linux, fcntl.h): type, whence, start, length, process."""
NO_LOCKS = (ENOLCK, EINVAL, EOPNOTSUPP)
"""What a file system says that has none."""
SYS = Path("/sys")
PROC = Path("/proc")
MOST_NAMED = 3


def have_alone(fd: int, path: Path, read_only: bool, *, sys: Path = SYS) -> None:
    """Lock this open file; it stays so until it is closed. Raises `ImageInUse`, which says who has
    it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImageInUse(path, f"is in use: another program has locked it{_holders(fd)}") from None
    if not _lock_as_qemu_does(fd, read_only):
        raise ImageInUse(
            path, f"is in use: a QEMU has locked it, or one of its tools{_holders(fd)}"
        )
    for device in _loop_devices(fd, sys):
        if not (read_only and _only_reads(device)):
            raise ImageInUse(
                path,
                f"is in use: /dev/{device.name} is a loop device of it{mounted(device.name)}; "
                f"once that is not needed any more: losetup -d /dev/{device.name}",
            )


def _lock_as_qemu_does(fd: int, read_only: bool) -> bool:
    """Whether it can be had, beside what every QEMU says it does with it."""
    used = [READING] if read_only else [READING, WRITING]
    alone = [WRITING, RESIZING] if read_only else list(PERMISSIONS)
    try:
        for byte in [USED + each for each in used] + [NOT_SHARED + each for each in alone]:
            _ask(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
        theirs = [NOT_SHARED + each for each in used] + [USED + each for each in alone]
        return all(
            _ask(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) == fcntl.F_UNLCK for byte in theirs
        )
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        if error.errno in (EACCES, EAGAIN):  # held whole, by one who does not share locks
            return False
        raise


def _ask(fd: int, what: int, kind: int, byte: int) -> int:
    """Lock a byte, or look at it; what kind of lock there is then."""
    said = fcntl.fcntl(fd, what, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    return int(FLOCK.unpack(said)[0])


def _loop_devices(fd: int, sys: Path) -> Iterator[Path]:
    """The folders, in /sys, of the loop devices that are on this file."""
    this = os.fstat(fd)
    for told in sorted(sys.glob("block/loop*/loop/backing_file")):
        with suppress(OSError):  # it was let go of; the file is not to be seen from here
            if _same(Path(told.read_text().removesuffix("\n")).stat(), this):
                yield told.parents[1]


def _only_reads(device: Path) -> bool:
    return (device / "ro").read_text().strip() == "1"


def mounted(device: str) -> str:
    """Where a device, or a partition of it, is mounted; nothing where it is not."""
    places = []
    for line in (PROC / "self/mounts").read_text(errors="replace").splitlines():
        source, place, *_ = line.split(" ")
        if source.removeprefix("/dev/").startswith(device):
            places.append(place)
    return f", mounted on {' and '.join(places)}" if places else ""


def _holders(fd: int) -> str:
    """Who has this file open besides this program, as far as that can be seen."""
    this = os.fstat(fd)
    found = []
    for process in sorted(PROC.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        with suppress(OSError):  # it ended, or is another user's
            if int(process.name) != os.getpid() and _has_open(process, this):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    if len(found) > MOST_NAMED:
        found[MOST_NAMED:] = [f"{len(found) - MOST_NAMED} more"]
    return f": {', '.join(found)}" if found else ""


def _has_open(process: Path, this: os.stat_result) -> bool:
    for each in (process / "fd").iterdir():
        with suppress(OSError):
            if _same(each.stat(), this):
                return True
    return False


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether these are one file, or two names of a block device."""
    if stat.S_ISBLK(one.st_mode) and stat.S_ISBLK(other.st_mode):
        return one.st_rdev == other.st_rdev
    return os.path.samestat(one, other)
