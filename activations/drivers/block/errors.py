"""What a disk's user can meet. They are OSErrors too, so `error.errno` says which it was."""

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


def refusal(what: str, status: int) -> DiskError:
    """The error for a response's status, which is any number but `Status.OKAY`."""
    if status == Status.EOPNOTSUPP:
        return DiskError(errno.EOPNOTSUPP, what, "the back end does not do it")
    if status == Status.ERROR:
        return DiskError(errno.EIO, what, "the back end failed")
    return DiskError(errno.EIO, what, f"the back end answered {status}, which is no status")
