"""A disk on a file or a block device of this domain.

Reads and writes go straight between the page cache and the buffers, in the loop's own thread where
that does not wait: it takes a tenth of the time in which another thread would have done it.
Only the kernel knows, so it is asked to do what can be done at once, and no more (RWF_NOWAIT). The
rest is done by threads, and so are flushes and discards.

What the kernel does at once differs by file system. All do the reads that their cache holds. Of
writes, XFS does nearly all, and btrfs nothing. ext4 and block devices cannot be asked about writes,
network file systems about nothing: there a thread does all of it. A write of 4 KiB, from front end
to back end and back, then takes 1.8 times as long where one is asked for at a time, and 1.5 times
where many are (87 and 26 µs). A guess would not save that: a write that looks harmless waits for
its page to be read, for a journal to be written (after any flush, on ext4), or because the kernel
holds back a program that has made too much of the cache dirty, for up to a fifth of a second; and
with the loop all other guests' disks and networks would wait.

A file system in memory has no device to wait for, and on the virtual clock there are no threads:
there all is done at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import stat
from collections.abc import Callable
from errno import EACCES, EBUSY, EINVAL, EIO, ENOSYS, EOPNOTSUPP, EPERM, EROFS
from functools import cache
from pathlib import Path
from struct import unpack
from typing import Any, Literal, TypeAlias

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.errors import ImageInUse, ImageReadOnly, UnfitImage
from activations.drivers.block.formats import found_in
from activations.drivers.block.sharing import have_alone, mounted
from activations.drivers.block.threads import Threads
from activations.virtual_loop import VirtualEventLoop

BLKROGET = 0x125E
"""The ioctl that says whether a block device is read-only, an int (Linux, linux/fs.h)."""
BLKSSZGET = 0x1268
"""The one that gives its sector size, an int."""
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
"""Modes of fallocate (Linux, linux/falloc.h)."""
IN_MEMORY = (0x01021994, 0x858458F6)
"""What statfs says of tmpfs and ramfs, in a long at its beginning (Linux, linux/magic.h)."""
SIZE_OF_STATFS = 512
"""Bytes, more than it has anywhere."""
IOV_MAX = 1024
"""Buffers that one system call takes."""
THREADS = 8

Call: TypeAlias = Callable[..., int]
"""`os.preadv` or `os.pwritev`."""


class FileDisk:
    """A raw image or a block device. Close it when it is not served any more: use `with`.

    While it can be written, no other program has it; with `read_only`, others may read it too:
    `sharing` says which programs are noticed. A file that looks like an image of another format is
    refused, unless `format` says that it is "raw". The last sector of a file that does not fill it
    goes on with zeroes; such a file can only be read.

    Raises `ImageError`, whose kinds say whether somebody else has it (`ImageInUse`), it cannot be
    written (`ImageReadOnly`), or is not such an image (`UnfitImage`), and `OSError` for what cannot
    be opened.
    """

    discard_granularity = 4096

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        format: Literal["raw"] | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self.read_only = read_only
        self._threads = Threads(THREADS, self.path.name)
        self._mute: set[Call] = set()
        """Calls about which the file system cannot be asked whether they would wait."""
        self._fd = _open(self.path, read_only)
        try:
            have_alone(self._fd, self.path, read_only)
            self._in_memory = _in_memory(self._fd)
            self._at_once = 0 if self._in_memory else os.RWF_NOWAIT  # in memory nothing waits
            self.sector_size: int = _sector_size(self._fd, self.path)
            self.size: int = _size(self._fd, self.path, read_only, format)
        except BaseException:
            os.close(self._fd)
            raise
        self.sectors: int = -(-self.size // self.sector_size) * (self.sector_size // SECTOR_SIZE)

    def __repr__(self) -> str:
        return f"<FileDisk {self.path}: {self.sectors} sectors>"

    def __enter__(self) -> FileDisk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what the threads still do, and close the file. Twice is harmless."""
        self._threads.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        beyond = offset + sum(map(len, buffers)) - self.size
        if beyond > 0:
            buffers = _filled_up(buffers, beyond)
        return self._transfer(os.preadv, offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Done:
        return self._transfer(os.pwritev, offset, buffers)

    def flush(self) -> Done:
        return self._aside(os.fdatasync, self._fd)

    def discard(self, offset: int, length: int) -> Done:
        return self._aside(_punch_hole, self._fd, offset, length) if length else None

    def _transfer(self, call: Call, offset: int, buffers: Buffers) -> Done:
        if call not in self._mute and len(buffers) <= IOV_MAX:
            try:
                if call(self._fd, buffers, offset, self._at_once) == sum(map(len, buffers)):
                    return None
            except OSError as error:  # if it is more than that it would wait, it will come again
                if error.errno in (EOPNOTSUPP, EINVAL):
                    self._mute.add(call)
        return self._aside(_whole, call, self._fd, buffers, offset)

    def _aside(self, function: Callable[..., None], *args: Any) -> Done:
        """Do it in a thread, where there is something to wait for, and there are threads."""
        if self._in_memory or isinstance(asyncio.get_running_loop(), VirtualEventLoop):
            function(*args)
            return None
        return self._threads.do(function, *args)


def _open(path: Path, read_only: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    mode = path.stat().st_mode
    is_device = stat.S_ISBLK(mode)
    if not is_device and not stat.S_ISREG(mode):
        raise UnfitImage(path, "is neither a file nor a block device")
    try:
        fd = os.open(path, flags | os.O_EXCL if is_device else flags)  # unless it is mounted
    except OSError as error:
        if error.errno == EBUSY:
            where = mounted(path.resolve().name) or " by this system, for RAID, LVM or swap, say"
            raise ImageInUse(path, f"is in use{where}") from None
        if error.errno in (EACCES, EPERM, EROFS) and not read_only:
            raise ImageReadOnly(path, f"cannot be written: {error.strerror}") from None
        raise
    if is_device and not read_only and unpack("i", fcntl.ioctl(fd, BLKROGET, bytes(4)))[0]:
        os.close(fd)
        raise ImageReadOnly(path, "cannot be written: it is a read-only device")
    return fd


def _size(fd: int, path: Path, read_only: bool, format: str | None) -> int:
    """The bytes of it. Raises `UnfitImage` where they cannot be a disk's."""
    size = os.lseek(fd, 0, os.SEEK_END)
    if not size:
        raise UnfitImage(path, "is empty: `truncate -s 64M` makes it a disk of 64 MiB, all zeroes")
    if format is None and (found := found_in(fd, size)):
        raise UnfitImage(
            path,
            f"is not a raw image, but {found.name}: `{found.command(path)}` makes a raw one; if "
            'it is raw in spite of how it looks, insist on the format "raw" (--format raw)',
        )
    if size % SECTOR_SIZE and not read_only:
        raise UnfitImage(
            path,
            f"has {size} bytes, {size % SECTOR_SIZE} more than fill its sectors of {SECTOR_SIZE}: "
            "`truncate -s %512` fills the last one up with zeroes; to be read only, it can stay "
            "as it is (--read-only)",
        )
    return size


def _sector_size(fd: int, path: Path) -> int:
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return SECTOR_SIZE
    (size,) = unpack("i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))
    return int(size)


def _filled_up(buffers: Buffers, beyond: int) -> Buffers:
    """The buffers without so many bytes at their end, which are made zeroes: there the file ends,
    within its last sector."""
    kept = []
    for buffer in reversed(buffers):
        end = max(len(buffer) - beyond, 0)
        beyond -= len(buffer) - end
        buffer[end:] = bytes(len(buffer) - end)
        kept.append(buffer[:end])
    return kept[::-1]


def _whole(call: Call, fd: int, buffers: Buffers, offset: int) -> None:
    """Read or write all of it, in as many calls as it takes. Raises `OSError`, with EIO where the
    file ends before."""
    rest = [buffer for buffer in buffers if buffer]
    while rest:
        done = call(fd, rest[:IOV_MAX], offset)
        if not done:
            raise OSError(EIO, f"the file ends at {offset}")
        offset += done
        while rest and done >= len(rest[0]):
            done -= len(rest.pop(0))
        if done:
            rest[0] = rest[0][done:]


def _in_memory(fd: int) -> bool:
    """Whether this is a file of a file system in memory."""
    said = ctypes.create_string_buffer(SIZE_OF_STATFS)
    regular = stat.S_ISREG(os.fstat(fd).st_mode)  # a device's node may be in memory, it is not
    if not regular or _libc().fstatfs(fd, said):
        return False
    return ctypes.c_long.from_buffer(said).value in IN_MEMORY


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _fallocate() -> Any:
    function = getattr(_libc(), "fallocate64", None)
    if function is None:
        raise OSError(ENOSYS, "this C library has no fallocate64")
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


def _punch_hole(fd: int, offset: int, length: int) -> None:
    if _fallocate()(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, f"fallocate: {os.strerror(number)}")
