"""xenstored's end of a guest's ring page.

The machinery around it calls `kick` when the guest's event channel fires, and is asked through
`notify` to send an event back. Replies that the guest makes no room for stay queued; and while
too many do, no more of its requests are read, so that a guest which never reads cannot make
xenstored grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.abi.grant_table import PAGE_SIZE
from activations.abi.xs_wire import RingFault, ServerFeature
from activations.ring import RingError
from activations.store.page import StorePage

if TYPE_CHECKING:
    from xen_sim.domain import XenDomain
    from xen_sim.xenstored.connection import Connection
    from xen_sim.xenstored.server import Xenstored


class RingServer:
    """Serves one connection through its page of 4096 bytes.

    A page whose indices make no sense, or bytes that are no messages, end the service: `fault`
    on the page says why, and nothing is read or written any more.
    """

    def __init__(
        self,
        page: memoryview,
        connection: Connection,
        notify: Callable[[], None],
    ) -> None:
        self._page = StorePage(page)
        self._connection = connection
        self._notify = notify
        self._partial = memoryview(b"")
        self._page.features = ServerFeature.ERROR
        connection.on_output = self._output

    def kick(self) -> None:
        """The guest has written requests, or made room for replies."""
        self._serve(requests=True)

    def _output(self) -> None:
        # another client's change may have led here: this guest's own requests wait for its kick
        self._serve(requests=False)

    def _serve(self, *, requests: bool) -> None:
        if self._connection.broken:
            return
        moved = False
        try:
            while self._respond() or (requests and self._request()):
                moved = True
        except RingError:
            self._fail(RingFault.RINGIDX)
            return
        if self._connection.broken:
            self._fail(RingFault.PROTO)
        elif moved:
            self._notify()

    def _respond(self) -> bool:
        if not self._partial:
            self._partial = memoryview(self._connection.take_message())
        written = self._page.responses.write(self._partial)
        self._partial = self._partial[written:]
        return written > 0

    def _request(self) -> bool:
        if self._connection.saturated:
            return False
        if data := self._page.requests.read():
            self._connection.receive(data)
        return bool(data)

    def _fail(self, fault: RingFault) -> None:
        self._connection.break_off()
        self._page.fault = fault
        self._notify()


class XenstoreRing:
    """A ring of its own for a simulated domain: `page` and `port` are what its guest works with.

    Closing the port ends the connection, and what was set up on it.
    """

    def __init__(self, xenstored: Xenstored, domain: XenDomain) -> None:
        self._memory = bytearray(PAGE_SIZE)
        self._channels = domain.event_channels
        self._connection = xenstored.connect(domain.domid)
        server = RingServer(memoryview(self._memory), self._connection, self._notify)
        self.port = self._channels.listen(server.kick)
        self._channel = self._channels.channel(self.port)

    @property
    def page(self) -> memoryview:
        return memoryview(self._memory)

    def _notify(self) -> None:
        if self._channels.channel(self.port) is self._channel:
            self._channels.set_pending(self.port)
        else:
            self._connection.close()  # the guest closed its end
