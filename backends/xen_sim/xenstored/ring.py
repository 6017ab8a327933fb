"""xenstored's end of a guest's ring page.

The machinery around it calls `kick` when the guest's event channel fires, and is asked through
`notify` to send an event back. What is said and told goes as it does in Xen's xenstored: in a turn,
one request is read, if all of it is there, and one message written, if there is room for it; and
what lies around the ring's end takes two turns. Replies that the guest makes no room for stay
queued; and while too many do, no more of its requests are read, so that a guest which never reads
cannot make xenstored grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from activations.abi.xs_wire import HEADER, RingFault, ServerFeature
from activations.ring import RingError
from activations.store.page import StorePage

if TYPE_CHECKING:
    from xen_sim.xenstored.connection import Connection


class RingServer:
    """Serves one connection through its page of 4096 bytes.

    A page whose indices make no sense, or bytes that are not messages, end the service: `fault`
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
        self._written = 0
        self._moved = False
        self._page.features = ServerFeature.ERROR
        connection.on_turn = self._turn
        connection.on_restart = self._restart

    def kick(self) -> None:
        """The guest has written requests, or made room for replies."""
        self._connection.wake()

    def _turn(self) -> bool:
        if self._connection.broken:
            return False
        try:
            moved = self._request()
            moved |= self._respond()
        except RingError:
            self._fail(RingFault.RINGIDX)
            return False
        if self._moved and not moved:
            self._notify()
        self._moved = moved
        return moved

    def _request(self) -> bool:
        """Read a header, and what there is of its payload; or more of a payload."""
        connection, requests = self._connection, self._page.requests
        if connection.saturated or not requests.used:
            return False
        in_payload = connection.in_payload
        connection.receive(requests.read(connection.wanted, in_one_piece=True))
        if not connection.broken and connection.in_payload and not in_payload:
            connection.receive(requests.read(connection.wanted, in_one_piece=True))
        if connection.broken:
            self._fail(connection.fault)
        return True

    def _respond(self) -> bool:
        """Write the next message, or more of it."""
        message, responses = memoryview(self._connection.next_message), self._page.responses
        if not message or not responses.free:
            return False
        if self._written < HEADER.size:
            self._written += responses.write(
                message[self._written : HEADER.size], in_one_piece=True
            )
        if self._written >= HEADER.size:
            self._written += responses.write(message[self._written :], in_one_piece=True)
        if self._written == len(message):
            self._written = 0
            self._connection.taken()
        return True

    def _restart(self) -> None:
        self._written = 0
        self._page.restart()

    def _fail(self, fault: RingFault) -> None:
        self._connection.break_off()
        self._page.fault = fault
        self._notify()
