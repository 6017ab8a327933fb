"""What xenstore refuses, and what happens when it goes away."""

from __future__ import annotations

import errno as numbers

from activations.abi.xs_wire import MessageType
from activations.errors import ActivationsError, XenError

UNSEEN = (numbers.ENOENT, numbers.EACCES)
"""What xenstore answers of a node that is not there for the domain that asks."""


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


class QuotaError(StoreError):
    """A guest has used up what xenstored lets it have, in all its programs and its kernel.

    `quota` names what there is too much of: `watches`, `transactions`, `nodes`. `errno` is what
    xenstored answered, which differs between its two programs.
    """

    def __init__(self, errno: int, kind: MessageType, path: str, quota: str, owner: str) -> None:
        self.quota = quota
        hint = f"xenstored lets a guest have {_QUOTAS[quota]}, unless it was told otherwise"
        super().__init__(errno, kind, path, f"{owner} has used up its quota of {quota}", hint)


_QUOTAS = {
    "watches": "128 watches",
    "transactions": "10 transactions open at once",
    "nodes": "1000 nodes, of 2048 bytes each",
}
"""Each quota, and what both xenstoreds have set it to at first."""
_SPENT = {
    (MessageType.WATCH, numbers.E2BIG): "watches",
    (MessageType.WATCH, numbers.ENOSPC): "watches",
    (MessageType.TRANSACTION_START, numbers.ENOSPC): "transactions",
    (MessageType.TRANSACTION_START, numbers.EBUSY): "transactions",
    (MessageType.TRANSACTION_START, numbers.EINVAL): "transactions",
    (MessageType.WRITE, numbers.ENOSPC): "nodes",
    (MessageType.MKDIR, numbers.ENOSPC): "nodes",
}
"""Which quota a refusal is about: of xenstored in C, and of the one in OCaml (`process.ml`), whose
EQUOTA Linux makes EINVAL. Where that could be about the path as well, it is left as it is."""


def refusal(
    errno: int, kind: MessageType, path: str, detail: str = "", *, owner: str
) -> StoreError:
    """The error for what xenstored answered to `owner`."""
    if quota := _SPENT.get((kind, errno)):
        return QuotaError(errno, kind, path, quota, owner)
    return StoreError(errno, kind, path, detail)
