"""xenstore: the small tree of strings through which domains find each other.

    value = await store.read("/local/domain/3/name")
    await store.write("data/state", "ready")            # below this domain's home
    async with store.watch("device/vif") as events:
        async for path in events: ...
    async with store.transaction() as t: ...

The protocol is docs/misc/xenstore.txt of Xen's sources.
"""

from activations.store.client import Store
from activations.store.errors import (
    QuotaError,
    StoreClosed,
    StoreError,
    StoreUnreachable,
    WireError,
)
from activations.store.nodes import Nodes
from activations.store.permission import Access, Permission
from activations.store.transaction import Transaction
from activations.store.watch import Watch

__all__ = [
    "Access",
    "Nodes",
    "Permission",
    "QuotaError",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreUnreachable",
    "Transaction",
    "Watch",
    "WireError",
]


def __dir__() -> list[str]:
    return __all__
