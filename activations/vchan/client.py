"""The client: reads where the vchan is, maps it, and says that it has come.

The server is not believed. The orders are read once and checked before anything is built on
them, and references that cannot be mapped are refused by Xen.
"""

from __future__ import annotations

from contextlib import ExitStack
from struct import unpack_from

from activations.abi import vchan as abi
from activations.domain import Domain
from activations.grants import Grant
from activations.store import Store, StoreError, Transaction
from activations.store.errors import UNSEEN
from activations.vchan.end import CLIENT
from activations.vchan.errors import VchanError
from activations.vchan.layout import Layout
from activations.vchan.link import Link
from activations.vchan.stream import VchanStream


async def connect(xen: Domain, domid: int, path: str) -> VchanStream:
    """Connect to the vchan that domain `domid` offers below `path` in xenstore.

    Waits until it is offered; bound the wait with `asyncio.timeout`. Raises `VchanError` for an
    offer that makes no sense, `XenError` if Xen refuses the port or the pages: most often EINVAL,
    for an offer that is another client's by now, or whose server is dead.
    """
    ref, number = await _offer(xen.store, path)
    link = _link(xen, domid, ref, number)
    link.end.arrive()
    return VchanStream(link, domid)


async def _offer(store: Store, path: str) -> tuple[int, int]:
    """The control page's reference and the server's port, both of the same offer."""

    async def both(view: Transaction) -> tuple[int, int]:
        return await _number(view, path, abi.RING_REF), await _number(view, path, abi.EVENT_CHANNEL)

    while True:
        for node in (abi.RING_REF, abi.EVENT_CHANNEL):  # one alone is left by who died in between
            await store.wait_for(f"{path}/{node}")
        try:
            return await store.transact(both)
        except StoreError as error:
            if error.errno not in UNSEEN:
                raise


async def _number(view: Transaction, path: str, node: str) -> int:
    said = await view.read(f"{path}/{node}")
    if not (said.isascii() and said.isdecimal() and int(said) < 1 << 32):
        raise VchanError(f"{path}/{node} is {said!r}: it must be a number below 2^32")
    return int(said)


def _link(xen: Domain, domid: int, ref: int, number: int) -> Link:
    with ExitStack() as undo:
        port = undo.enter_context(xen.events.bind_interdomain(domid, number))
        control = undo.enter_context(xen.grants.map(domid, [ref]))
        page = bytes(control.memory)  # copied, then looked at
        layout = Layout.of(*abi.ORDERS.unpack_from(page, abi.ORDERS_AT))
        rings: list[Grant] = []
        at = abi.GRANTS_AT
        for place, writable in ((layout.left, True), (layout.right, False)):
            if place.pages:
                refs = unpack_from(f"<{place.pages}I", page, at)
                rings.append(undo.enter_context(xen.grants.map(domid, refs, writable=writable)))
                at += abi.GRANT_SIZE * place.pages
        link = Link(CLIENT, layout, port, control, rings)
        undo.pop_all()
    link.watch_over(xen, domid)
    return link
