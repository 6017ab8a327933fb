"""A TAP device: a network device of this kernel's, whose other end is a file.

What Linux sends through it is read here, what is written here Linux receives. So a guest behind a
`Tap` is on this domain's network: give the device an address, or put it into a bridge.

    with Tap("tap0") as tap:
        subprocess.run(["ip", "link", "set", tap.name, "up"])
        async with netback.serve(xen, device, tap): ...

Making one is one ioctl, so it is made here: a library for netlink takes longer to import than a
domain under emulation takes to do the rest.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from types import TracebackType
from typing import Self

from activations.abi import linux_tun as abi
from activations.abi.netif import MAX_TX_SIZE
from activations.drivers.net.errors import NicClosed

_NOT_TAKEN = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EIO, errno.EINVAL}
"""The device is full, or down, or the frame makes no sense to it."""


class Tap:
    """A TAP device, an `Interface`, until `close`. Needs the wall clock.

    `name` is at most 15 bytes; empty, Linux chooses one. A device of that name that is there is
    taken, if it is a TAP and nobody has it. Raises `OSError`: EPERM without the right to make
    devices (CAP_NET_ADMIN), ENOENT without the kernel's module tun, EBUSY.
    """

    def __init__(self, name: str = "") -> None:
        asked = name.encode()
        if len(asked) >= abi.IFNAMSIZ:
            raise ValueError(f"{name!r}: a device's name has {abi.IFNAMSIZ - 1} bytes at most")
        self._fd = os.open(abi.PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            request = bytearray(abi.IFREQ.pack(asked, abi.IFF_TAP | abi.IFF_NO_PI))
            fcntl.ioctl(self._fd, abi.TUNSETIFF, request)
        except OSError:
            os.close(self._fd)
            raise
        self.name: str = abi.IFREQ.unpack(request)[0].rstrip(b"\0").decode()
        """As Linux knows it."""
        self.dropped = 0
        """Frames that Linux did not take: the device was down, or full."""
        self._readers: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Tap {self.name}: {'closed' if self._fd < 0 else 'open'}>"

    async def send(self, frame: bytes) -> None:
        """Have Linux receive a frame; never waits. Raises `NicClosed`."""
        try:
            os.write(self._open(), frame)
        except OSError as error:
            if error.errno not in _NOT_TAKEN:
                raise
            self.dropped += 1

    async def receive(self) -> bytes:
        """The next frame that Linux sends. Raises `NicClosed` if this is or gets closed."""
        while (frame := self.receive_nowait()) is None:
            await self._readable()
        return frame

    def receive_nowait(self) -> bytes | None:
        """The next frame that Linux has sent; None if there is none, or the device is down."""
        try:
            return os.read(self._open(), MAX_TX_SIZE)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """The device goes, and whoever receives is told. Twice is harmless."""
        if self._fd >= 0:
            for reader in self._readers:
                if not reader.done():
                    reader.set_result(None)
            if self._readers:
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._fd < 0:
            raise NicClosed(f"the TAP device {self.name} was closed")
        return self._fd

    async def _readable(self) -> None:
        """Wait until there may be a frame."""
        loop = asyncio.get_running_loop()
        reader: asyncio.Future[None] = loop.create_future()
        if not self._readers:
            loop.add_reader(self._fd, self._wake)
        self._readers.add(reader)
        try:
            await reader
        finally:
            self._readers.discard(reader)
            if not self._readers and self._fd >= 0:
                loop.remove_reader(self._fd)

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
