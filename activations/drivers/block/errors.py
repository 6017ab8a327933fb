"""Errors of the user of a disk, and of the program that serves one. They are OSErrors too, so
`error.errno` says which it was."""

from __future__ import annotations

import errno
import os

from activations.abi.blkif import Status
from activations.errors import ActivationsError


class DiskError(ActivationsError, OSError):
    """A request was not done. `errno` is EIO where the back end failed, EOPNOTSUPP for what it
    does not do, EROFS for a write to a disk that is read-only, ENODEV for a disk that is gone."""

    def __init__(self, number: int, what: str, detail: str = "") -> None:
        said = f"{what}: {os.strerror(number)}"
        super().__init__(number, f"{said} ({detail})" if detail else said)

    def __str__(self) -> str:
        return str(self.strerror)


class DiskGone(DiskError):
    """The disk was closed or unplugged, or its back end broke the protocol: the text says which.
    Whether what was under way has been done is not known."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ENODEV, "disk", why)


class ImageError(ActivationsError, OSError):
    """A file or a device cannot be served as a disk. The text is a sentence that begins with its
    path and says what to do."""

    number: int = errno.EINVAL

    def __init__(self, path: os.PathLike[str], why: str) -> None:
        super().__init__(self.number, why, os.fspath(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


class ImageInUse(ImageError, BlockingIOError):
    """Somebody else has it, and one of the two would write to it."""

    number: int = errno.EBUSY


class ImageReadOnly(ImageError):
    """It was to be written, and cannot be."""

    number: int = errno.EROFS


class UnfitImage(ImageError, ValueError):
    """It is not a raw image of whole sectors: the text says what it is."""


def refusal(what: str, status: int) -> DiskError:
    """The error for a response's status, which is any number but `Status.OKAY`."""
    if status == Status.EOPNOTSUPP:
        return DiskError(errno.EOPNOTSUPP, what, "the back end does not do it")
    if status == Status.ERROR:
        return DiskError(errno.EIO, what, "the back end failed")
    return DiskError(errno.EIO, what, f"the back end answered {status}, which is not a status")
