"""A disk on a file or a block device of this domain.

Reads and writes go straight between the page cache and the buffers, in the loop's own thread where
that makes nobody wait: that takes a tenth of the time in which another thread would have done it.
Only the kernel knows, so it is asked to do what can be done at once, and no more (RWF_NOWAIT). The
rest is done by threads, and so are flushes and discards.

What the kernel does at once differs by file system. All do the reads that their cache holds. Of
writes, XFS does nearly all, and btrfs nothing. ext4 and block devices cannot be asked about writes,
network file systems about nothing: there a thread does all of it. A write of 4 KiB, from front end
to back end and back, then takes 1.8 times as long where one is asked for at a time, and 1.5 times
where many are (87 and 26 µs). A guess would not save that: a write that looks harmless waits for
its page to be read, for a journal to be written (after any flush, on ext4), or because the kernel
holds back whoever has made too much of the cache dirty, for up to a fifth of a second; and with the
loop all other guests' disks and networks would wait.

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
from errno import EINVAL, EIO, ENOSYS, EOPNOTSUPP
from functools import cache
from pathlib import Path
from struct import unpack
from types import TracebackType
from typing import Any, TypeAlias

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.threads import Threads
from activations.loop import VirtualEventLoop

BLKSSZGET = 0x1268
"""The ioctl that gives a block device's sector size, an int (Linux, linux/fs.h)."""
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
    """A raw image or a block device. Close it when nobody serves it any more: use `with`.

    It is locked against others who open it so: for writing, or, with `read_only`, for reading
    alone. A block device that is mounted is refused. Raises `OSError` for what cannot be opened
    (`BlockingIOError` where it is locked), `ValueError` for what is neither a file nor a block
    device.
    """

    discard_granularity = 4096

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._threads = Threads(THREADS, self.path.name)
        self._mute: set[Call] = set()
        """Calls about which the file system cannot be asked whether they would wait."""
        self._fd = os.open(path, _open_flags(self.path, read_only))
        try:
            _lock(self._fd, self.path, fcntl.LOCK_SH if read_only else fcntl.LOCK_EX)
            self._in_memory = _in_memory(self._fd)
            self.sector_size = _sector_size(self._fd, self.path)
            size = os.lseek(self._fd, 0, os.SEEK_END)
            self.sectors = size // self.sector_size * (self.sector_size // SECTOR_SIZE)
        except BaseException:
            os.close(self._fd)
            raise

    def __repr__(self) -> str:
        return f"<FileDisk {self.path}: {self.sectors} sectors>"

    def __enter__(self) -> FileDisk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what the threads still do, and close the file. Twice is harmless."""
        self._threads.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_into(self, offset: int, buffers: Buffers) -> Done:
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
                if call(self._fd, buffers, offset, os.RWF_NOWAIT) == sum(map(len, buffers)):
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


def _open_flags(path: Path, read_only: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    mode = path.stat().st_mode
    if stat.S_ISBLK(mode):
        return flags | os.O_EXCL  # for a block device: unless it is mounted
    if stat.S_ISREG(mode):
        return flags
    raise ValueError(f"{path} is neither a file nor a block device")


def _lock(fd: int, path: Path, how: int) -> None:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, "somebody else has it locked", str(path)) from None


def _sector_size(fd: int, path: Path) -> int:
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return SECTOR_SIZE
    (size,) = unpack("i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))
    return int(size)


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
