"""What a vchan's end holds of the domain: a port, the control page, pages for the rings.

A link owns them from the moment it has them until `aclose()`. A peer that maps pages which this
domain granted may take its time with unmapping them: see `Leftovers`.

A program that dies has its kernel tell the other end. A domain that Xen destroys does not: its
live byte says what it said, and no event comes. dom0 hears of it from xenstored; a guest is not
told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from activations.abi.xenstore_paths import home
from activations.bell import bell
from activations.domain import Domain
from activations.grants import Grant
from activations.leftovers import Leftovers
from activations.own import ended, own
from activations.port import Port
from activations.store import Store, StoreError, StoreUnreachable
from activations.vchan.end import SERVER, End, Fields
from activations.vchan.layout import Layout


class Link:
    """One end, and the port and the pages it works with.

    `rings` are the pages of the rings that have some, left's first. If this end dies without
    `aclose()`, the unmapping of the control page clears its live byte and sends the event.
    """

    def __init__(
        self, fields: Fields, layout: Layout, port: Port, control: Grant, rings: Sequence[Grant]
    ) -> None:
        self.port = port
        self.closed: bool = False
        self.bereft: bool = False
        """The other end's domain is gone: see `watch_over`."""
        self._fields = fields
        self._control = control
        self._rings = rings
        self._leftovers = Leftovers()
        self._lingering: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        control.notify_on_close(clear_byte=fields.own_live, port=port.number)
        pages = iter(rings)
        left, right = (
            next(pages).memory[:] if place.pages else place.within(control.memory)
            for place in (layout.left, layout.right)
        )
        incoming, outgoing = (left, right) if fields is SERVER else (right, left)
        self.end: End = End(fields, control.memory[:], incoming, outgoing, bell(port))

    @property
    def ref(self) -> int:
        """The control page's grant reference."""
        return self._control.refs[0]

    def watch_over(self, xen: Domain, domid: int) -> None:
        """In dom0, learn of the end of the other end's domain, once there is another end; then
        `bereft` is true, the port is closed, and the other end is gone."""
        if xen.domid == 0:
            watching = self._until_bereft(xen, domid)
            self._watching = own(asyncio.create_task(watching, name=f"domain {domid} may end"))

    async def _until_bereft(self, xen: Domain, domid: int) -> None:
        with suppress(StoreError, StoreUnreachable):
            while not await self._sees_the_end(xen.store, domid):
                pass  # xenstored went away, and what watched with it
            self._lose_peer()

    async def _sees_the_end(self, store: Store, domid: int) -> bool:
        """Wait for a domain's end; False where the store is gone before."""
        try:
            async with store.watch("@releaseDomain") as ends:
                async for _ in ends:
                    if not await store.exists(f"{home(domid)}/domid"):
                        return True
        except StoreError:
            if not store.gone:
                raise
        return False

    def _lose_peer(self) -> None:
        if not self.closed:
            self.bereft = True
            self.end.lose_peer()
            self._control.notify_on_close(clear_byte=self._fields.own_live)
            self.port.close()

    async def aclose(self) -> None:
        """Tell the other end, and give everything back. Twice is harmless.

        Cancelled, it goes on by itself. Raises `XenError` (EBUSY) if the other end keeps granted
        pages mapped for `leftovers.LINGER` seconds, on a backend that refuses to take them back.
        """
        if not self.closed:
            self.closed = True
            self.end.leave()
            self.end.release()
            # the other end has been told; the port goes now, and its waiters are woken
            self._control.notify_on_close(clear_byte=self._fields.own_live)
            self.port.close()
            self._leftovers.close(*self._rings, self._control)
            if self._leftovers:
                lingering = self._leftovers.aclose()
                self._lingering = asyncio.create_task(lingering, name="vchan lingers")
        if self._watching is not None:
            self._watching.cancel()
            await ended(self._watching)
        if self._lingering is not None:
            await asyncio.shield(self._lingering)
