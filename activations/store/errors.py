"""What xenstore refuses, and what happens when it goes away."""

import errno as numbers

from activations.abi.xs_wire import MessageType
from activations.errors import ActivationsError, XenError


class WireError(ActivationsError):
    """Bytes that are not xs_wire messages, or a message that would not be one."""


class StoreUnreachable(ActivationsError):
    """There is no xenstored where one was looked for, or it may not be spoken to."""


class StoreError(XenError):
    """xenstored refused a request: `XS_READ /local/domain/3/name: No such file or directory`.

    `errno` is the number of the name xenstored answered; `path` is what the request was about
    (empty where it was about no path).
    """

    def __init__(
        self, errno: int, kind: MessageType, path: str = "", detail: str = "", hint: str = ""
    ) -> None:
        self.kind = kind
        self.path = path
        super().__init__(errno, f"XS_{kind.name} {path}".rstrip(), detail, hint)


class StoreClosed(StoreError):
    """The connection is gone: closed here, or by xenstored. `errno` is ENOTCONN."""

    def __init__(self, kind: MessageType, path: str = "", why: str = "") -> None:
        super().__init__(numbers.ENOTCONN, kind, path, why)
