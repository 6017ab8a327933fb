"""A TAP device: a network device of this kernel's, whose other end is a file.

What Linux sends through it is read here, what is written here Linux receives. So a guest behind a
`Tap` is on this domain's network: give the device an address, or put it into a bridge.

    with Tap("tap0") as tap:                                     # ip link set tap0 up
        async with net.serve(xen, device, tap): ...

pytun-pmd3 makes the device. It is imported only where that happens.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Self

from activations.abi.netif import MAX_TX_SIZE
from activations.drivers.net.errors import NicClosed

LONGEST_NAME = 15
"""Bytes of a device's name (IFNAMSIZ, less the zero at its end)."""
_NOT_TAKEN = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EIO, errno.EINVAL}
"""The device is full, or down, or the frame makes no sense to it."""


class Tap:
    """A TAP device, an `Interface`, until `close`. Needs the wall clock.

    `name` is at most 15 bytes; empty, Linux chooses one. A device of that name that is there is
    taken, if it is a TAP that no other program has. Raises `OSError`: EPERM without the right to
    make devices (CAP_NET_ADMIN), ENOENT without the kernel's module tun, EBUSY.
    """

    def __init__(self, name: str = "") -> None:
        if len(name.encode()) > LONGEST_NAME:
            raise ValueError(f"{name!r}: a device's name has {LONGEST_NAME} bytes at most")
        from pytun_pmd3.linux import IFF_NO_PI, IFF_TAP, TunTapDevice

        self._device = TunTapDevice(name, IFF_TAP | IFF_NO_PI)
        self._fd: int = self._device.fileno()
        os.set_blocking(self._fd, False)
        self.name: str = self._device.name
        """As Linux knows it."""
        self.dropped: int = 0
        """Frames that Linux did not take: the device was down, or full."""
        self._readers: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Tap {self.name}: {'closed' if self._fd < 0 else 'open'}>"

    async def send(self, frame: bytes) -> None:
        """Have Linux receive a frame; never waits. Raises `NicClosed` as `receive` does."""
        try:
            os.write(self._open(), frame)
        except OSError as error:
            if error.errno not in _NOT_TAKEN:
                raise self._meant(error) from None
            self.dropped += 1

    async def receive(self) -> bytes:
        """The next frame that Linux sends. Raises `NicClosed` if this is or gets closed, or
        somebody removed the device."""
        while (frame := self.receive_nowait()) is None:
            await self._readable()
        return frame

    def receive_nowait(self) -> bytes | None:
        """The next frame that Linux has sent; None if there is none, or the device is down."""
        try:
            return os.read(self._open(), MAX_TX_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._meant(error) from None

    def close(self) -> None:
        """The device goes, and pending receivers get `NicClosed`. Twice is harmless."""
        if self._fd >= 0:
            for reader in self._readers:
                if not reader.done():
                    reader.set_result(None)
            if self._readers:
                asyncio.get_running_loop().remove_reader(self._fd)
            self._device.close()
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> int:
        if self._fd < 0:
            raise NicClosed(f"the TAP device {self.name} was closed")
        return self._fd

    def _meant(self, error: OSError) -> Exception:
        """What an error of the file says of the device."""
        if error.errno == errno.EBADFD:
            return NicClosed(f"the TAP device {self.name} was removed")
        return error

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
