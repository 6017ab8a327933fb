"""A disk on a file or a block device of this domain.

Reads and writes go straight between the page cache and the buffers, in the loop's own thread: that
takes no longer than handing them to another one would. What has to wait for the device itself is
done by a thread, so that nothing else waits: a read that the page cache does not hold (asked of
the kernel by RWF_NOWAIT), a flush, a discard. A write waits for the device only where the kernel
holds back whoever has made too much of the page cache dirty.

On the virtual clock there are no threads, and all is done at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import EAGAIN, EIO, ENOSYS, EOPNOTSUPP
from functools import cache
from pathlib import Path
from struct import unpack
from types import TracebackType
from typing import Any

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import Buffers, Done
from activations.loop import VirtualEventLoop

BLKSSZGET = 0x1268
"""The ioctl that gives a block device's sector size, an int (Linux, linux/fs.h)."""
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
"""Modes of fallocate (Linux, linux/falloc.h)."""
IOV_MAX = 1024
"""Buffers that one system call takes."""
THREADS = 8


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
        self._nowait = os.RWF_NOWAIT
        self._threads: ThreadPoolExecutor | None = None
        self._fd = os.open(path, _open_flags(self.path, read_only))
        try:
            _lock(self._fd, self.path, fcntl.LOCK_SH if read_only else fcntl.LOCK_EX)
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
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        wanted = sum(map(len, buffers))
        if len(buffers) <= IOV_MAX:
            try:
                if os.preadv(self._fd, buffers, offset, self._nowait) == wanted:
                    return None
            except OSError as error:
                if error.errno == EOPNOTSUPP:  # a file system in memory: nothing waits there
                    self._nowait = 0
                elif error.errno != EAGAIN:
                    raise
            if not self._nowait:
                _whole(os.preadv, self._fd, buffers, offset)
                return None
        return self._aside(_whole, os.preadv, self._fd, buffers, offset)

    def write(self, offset: int, buffers: Buffers) -> Done:
        if len(buffers) > IOV_MAX or os.pwritev(self._fd, buffers, offset) != sum(
            map(len, buffers)
        ):
            _whole(os.pwritev, self._fd, buffers, offset)
        return None

    def flush(self) -> Done:
        return self._aside(os.fdatasync, self._fd)

    def discard(self, offset: int, length: int) -> Done:
        return self._aside(_punch_hole, self._fd, offset, length) if length else None

    def _aside(self, function: Callable[..., None], *args: Any) -> Done:
        """Do it in a thread, where there are any."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualEventLoop):
            function(*args)
            return None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=self.path.name)
        return loop.run_in_executor(self._threads, function, *args)


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


def _whole(transfer: Callable[..., int], fd: int, buffers: Buffers, offset: int) -> None:
    """Read or write all of it, in as many calls as it takes. Raises `OSError`, with EIO where the
    file ends before."""
    rest = [buffer for buffer in buffers if buffer]
    while rest:
        done = transfer(fd, rest[:IOV_MAX], offset)
        if not done:
            raise OSError(EIO, f"the file ends at {offset}")
        offset += done
        while rest and done >= len(rest[0]):
            done -= len(rest.pop(0))
        if done:
            rest[0] = rest[0][done:]


@cache
def _fallocate() -> Any:
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if function is None:
        raise OSError(ENOSYS, "this C library has no fallocate64")
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


def _punch_hole(fd: int, offset: int, length: int) -> None:
    if _fallocate()(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, f"fallocate: {os.strerror(number)}")
