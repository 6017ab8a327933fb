"""One queue of a network front end: its two rings, and the pages that packets lie in.

The pages are granted when a queue is made and stay so until it goes: none is granted for a packet,
and none has to be taken back from a back end that is slow, or hostile. An id is a page's number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from activations.abi.grant_table import PAGE_SIZE
from activations.abi.netif import Status
from activations.bell import Bell
from activations.drivers.net import checksum, receive, transmit
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.receive import Arrival, Collector
from activations.drivers.net.statistics import Statistics
from activations.sring import FrontRing


class PacketPages:
    """Granted pages, known by their numbers. `memory` is theirs, one after another."""

    def __init__(self, memory: memoryview, refs: Sequence[int]) -> None:
        self._memory = memory
        self.refs = refs
        self.free: deque[int] = deque(range(len(refs)))

    def write(self, number: int, data: memoryview) -> None:
        """Put bytes at a page's beginning."""
        start = number * PAGE_SIZE
        self._memory[start : start + len(data)] = data

    def read(self, number: int, offset: int, size: int) -> bytes:
        """A copy of bytes within a page."""
        start = number * PAGE_SIZE + offset
        return bytes(self._memory[start : start + size])


class ToBack:
    """The tx ring: what is sent. `bell` notifies the back end."""

    def __init__(
        self, ring: FrontRing, pages: PacketPages, bell: Bell, statistics: Statistics, *, sg: bool
    ) -> None:
        self.ring = ring
        self._pages = pages
        self._ring_bell = bell
        self._statistics = statistics
        self._sg = sg
        self._in_flight: dict[int, bool] = {}
        """The pages that the back end has, and whether a packet begins there."""

    @property
    def unanswered(self) -> int:
        """Packets that the back end has not answered yet."""
        return sum(self._in_flight.values())

    def send(self, frame: bytes) -> bool:
        """Put the frame into the ring; false if there is no room for it now. One that the back end
        cannot take is lost."""
        needed = transmit.slots(len(frame))
        if needed > 1 and not self._sg:
            self._statistics.lost += 1
            return True
        free = self._pages.free
        if len(free) < needed or self.ring.free < needed:
            return False
        ids = [free.popleft() for _ in range(needed)]
        with memoryview(frame) as view:
            for number, id in enumerate(ids):
                with view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] as part:
                    self._pages.write(id, part)
                self._in_flight[id] = not number
        places = [(id, self._pages.refs[id]) for id in ids]
        for request in transmit.encode(places, len(frame)):
            self.ring.put(request)
        self._statistics.sent += 1
        if self.ring.push():
            self._ring_bell()
        return True

    def collect(self) -> int:
        """Take answers; give how many pages they freed. Raises `RingError`, and `NetError` for an
        answer to nothing."""
        freed = 0
        while (entry := self.ring.take()) is not None:
            id, status = transmit.decode_response(entry)
            first = self._in_flight.pop(id, None)
            if first is None:
                raise NetError(f"the back end answers packet {id}, which is not in flight")
            if first and status != Status.OKAY:
                self._statistics.lost += 1
            self._pages.free.append(id)
            freed += 1
        return freed


class FromBack:
    """The rx ring: what is received."""

    def __init__(
        self, ring: FrontRing, pages: PacketPages, bell: Bell, statistics: Statistics
    ) -> None:
        self.ring = ring
        self._pages = pages
        self._ring_bell = bell
        self._statistics = statistics
        self._posted: deque[int] = deque()
        """The pages that the back end has, in the order in which they were offered."""
        self._collector = Collector()
        self._offer()

    def take(self, most: int) -> list[bytes]:
        """The frames that arrived, in at most so many entries of the ring; their pages are offered
        anew. Raises `RingError`, and `NetError` if the back end breaks the protocol."""
        frames = []
        for _ in range(most):
            if (entry := self.ring.take()) is None:
                break
            try:
                arrival = self._collector.add(self._posted.popleft(), entry)
                if arrival is not None:
                    self._pages.free.extend(arrival.ids)
                    frames.append(self._frame(arrival))
            except BadPacket as fault:
                self._pages.free.extend(id for id in fault.ids if id is not None)
                self._statistics.bad += 1
            except checksum.NoChecksum:
                self._statistics.bad += 1
        self._statistics.received += len(frames)
        self._offer()
        return frames

    def _frame(self, arrival: Arrival) -> bytes:
        parts = [self._pages.read(*part) for part in arrival.parts]
        frame = parts[0] if len(parts) == 1 else b"".join(parts)
        if not arrival.csum_blank:
            return frame
        buffer = bytearray(frame)
        checksum.complete(buffer)
        return bytes(buffer)

    def _offer(self) -> None:
        """Offer every page that is free."""
        free = self._pages.free
        while free and self.ring.free:
            id = free.popleft()
            self.ring.put(receive.encode_request(id, self._pages.refs[id]))
            self._posted.append(id)
        if self.ring.push():
            self._ring_bell()
