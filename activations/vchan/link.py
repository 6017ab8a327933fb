"""What a vchan's end holds of the domain: a port, the control page, pages for the rings.

A link owns them from the moment it has them until `aclose()`. A peer that maps pages which this
domain granted may take its time with unmapping them; where Xen refuses to take them back
meanwhile, the link asks again for a while.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress

from activations.errors import PortError, XenError
from activations.grants import Grant
from activations.port import Port
from activations.vchan.end import SERVER, End, Fields
from activations.vchan.layout import Layout

LINGER = 10.0
"""Seconds in which the other end has to unmap, where granted pages cannot be taken back before."""
_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.1


class Link:
    """One end, and the port and the pages it works with.

    `rings` are the pages of the rings that have some, left's first. If this end dies without
    `aclose()`, the unmapping of the control page clears its live byte and sends the event.
    """

    def __init__(
        self, fields: Fields, layout: Layout, port: Port, control: Grant, rings: Sequence[Grant]
    ) -> None:
        self.port = port
        self.closed = False
        self._fields = fields
        self._control = control
        self._open = [*rings, control]
        self._lingering: asyncio.Task[None] | None = None
        control.notify_on_close(clear_byte=fields.own_live, port=port.number)
        pages = iter(rings)
        left, right = (
            next(pages).memory[:] if place.pages else place.within(control.memory)
            for place in (layout.left, layout.right)
        )
        incoming, outgoing = (left, right) if fields is SERVER else (right, left)
        self.end = End(fields, control.memory[:], incoming, outgoing, self._notify)

    @property
    def ref(self) -> int:
        """The control page's grant reference."""
        return self._control.refs[0]

    async def aclose(self) -> None:
        """Tell the other end, and give everything back. Twice is harmless.

        Cancelled, it goes on by itself. Raises `XenError` (EBUSY) if the other end keeps granted
        pages mapped for `LINGER` seconds, on a backend that refuses to take them back.
        """
        if not self.closed:
            self.closed = True
            self.end.leave()
            self.end.release()
            # the other end has been told; the port goes now, and nobody here waits any longer
            self._control.notify_on_close(clear_byte=self._fields.own_live)
            self.port.close()
            if not self._give_back():
                self._lingering = asyncio.create_task(self._linger(), name="vchan lingers")
        if self._lingering is not None:
            await asyncio.shield(self._lingering)

    def _give_back(self) -> bool:
        """Close what can be closed; say whether that was all."""
        self._open = [grant for grant in self._open if _busy(grant)]
        return not self._open

    async def _linger(self) -> None:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + LINGER, _FIRST_PAUSE
        try:
            while not self._give_back() and loop.time() < deadline:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
        finally:
            for grant in self._open:
                grant.close()

    def _notify(self) -> None:
        with suppress(PortError, XenError):  # nobody to tell: its live byte says the rest
            self.port.notify()


def _busy(grant: Grant) -> bool:
    """Close a grant; say whether it cannot be closed yet."""
    try:
        grant.close()
    except XenError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    return False
