"""What the devices under /dev/xen have in common: opening them, and saying what went wrong.

A device node is there when its driver is loaded and the machine runs on Xen; the commonest error
of all is that one of these is not so, and it gets the plainest words.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from fcntl import ioctl
from typing import ClassVar, NoReturn, Self

from activations.errors import BackendError, XenError

MODULES = {
    "/dev/xen/evtchn": "xen-evtchn",
    "/dev/xen/gntdev": "xen-gntdev",
    "/dev/xen/gntalloc": "xen-gntalloc",
    "/dev/xen/privcmd": "xen-privcmd",
    "/dev/xen/hypercall": "xen-privcmd",
}
"""Which kernel module makes which device. /dev/xen/xenbus is part of the kernel itself."""

Hints = Mapping[tuple[str, int], str]
"""What to do when an operation ends in an errno."""


class Device:
    """An open device. `path` may name a stand-in, for tests.

    Raises `BackendError` where the device cannot be opened, with the command that mends it.
    """

    hints: ClassVar[Hints] = {}
    """What each device can say of its errors."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = open_device(path)

    def fileno(self) -> int:
        """The device's file descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the device; the kernel gives back what was made through it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ioctl(self, request: int, argument: bytearray, operation: str, detail: str = "") -> int:
        """The ioctl's own result; its argument is read and written in place.

        `fcntl.ioctl` gives the result for a mutable argument alone, which is why every argument
        here is a bytearray.
        """
        try:
            result: int = ioctl(self._fd, request, argument)
        except OSError as error:
            self._refused(error, operation, detail)
        return result

    def _refused(self, error: OSError, operation: str, detail: str) -> NoReturn:
        code = error.errno or 0
        raise XenError(code, operation, detail, self.hints.get((operation, code), "")) from None


def open_device(path: str, flags: int = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) -> int:
    """The descriptor of a freshly opened device; `BackendError` says why there is none."""
    try:
        return os.open(path, flags)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}: {_why(path, error.errno or 0)}") from None


def mend(path: str) -> str:
    """The command that makes a missing device appear."""
    return f"modprobe {MODULES[path]}" if path in MODULES else "boot this machine on Xen"


def _why(path: str, code: int) -> str:
    module = MODULES.get(path)
    if code in (errno.EACCES, errno.EPERM):
        return "run as root, or give this user the device"
    if code not in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "the driver refused"
    if module is None:
        return "not a Xen domain"
    return f"not a Xen domain, or {module} is not loaded; try `{mend(path)}`"
