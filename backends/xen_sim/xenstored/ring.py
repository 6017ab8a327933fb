"""xenstored's end of a guest's ring page.

The machinery around it calls `kick` when the guest's event channel fires, and is asked through
`notify` to send an event back. Replies that the guest makes no room for stay queued; and while
too many do, no more of its requests are read, so that a guest which never reads cannot make
xenstored grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.abi.xs_wire import RingFault, ServerFeature
from activations.ring import RingError
from activations.store.page import StorePage

if TYPE_CHECKING:
    from xen_sim.xenstored.connection import Connection


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
        self._serving = False
        self._page.features = ServerFeature.ERROR
        connection.on_output = self._output

    def kick(self) -> None:
        """The guest has written requests, or made room for replies."""
        self._serve(requests=True)

    def _output(self) -> None:
        # another client's change may have led here: this guest's own requests wait for its kick
        self._serve(requests=False)

    def _serve(self, *, requests: bool) -> None:
        if self._connection.broken or self._serving:
            return  # what is being served goes on to answer by itself
        moved, self._serving = False, True
        try:
            while self._respond() or (requests and self._request()):
                moved = True
        except RingError:
            self._fail(RingFault.RINGIDX)
            return
        finally:
            self._serving = False
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
