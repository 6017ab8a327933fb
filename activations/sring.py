"""A ring of requests and responses in shared memory, for either end of a split driver.

One array of entries serves both directions: the front end puts requests in, the back end takes
them out and puts a response in the place of any request it has taken. Indices are u32, run freely
and wrap at 2^32; entry i lies at i modulo the size, which is a power of two.

    rsp_cons        rsp_prod          req_cons         req_prod
       v               v                 v                v
       [  responses    )  being worked on [   requests    )  room until rsp_cons + size

The peer may be hostile. Its index is read once and checked before it is used, and an entry is
copied out before anybody looks at it: what was checked is what is used, whatever the peer writes
meanwhile.

Either end says by an event index when it next wants to be notified, so that a busy peer is not
rung for every entry. `push` therefore tells whether to notify, and `idle`, before sleeping, sets
the index and looks once more: what came in between is not slept through. Both store a word, then
load one that the other end stores, and x86 may swap these two unless a fence is between them.
"""

from __future__ import annotations

from activations.abi import ring as abi
from activations.fence import new_fence
from activations.ring import RingError

__all__ = ["BackRing", "FrontRing", "RingFull"]


def __dir__() -> list[str]:
    return __all__


_U32 = 0xFFFFFFFF


class RingFull(Exception):
    """There is no room for another entry. Its owner counts: this is not the peer's fault."""


class _End:
    """What both ends have in common: entries, indices, and who is told of what.

    `memory` is the shared pages, 1 to 16 of them; `entry_size` in bytes, the larger of the
    protocol's request and response.
    """

    # Where the indices are, in words
    _PROD: int
    _EVENT: int
    _PEER_PROD: int
    _PEER_EVENT: int

    def __init__(self, memory: memoryview, entry_size: int) -> None:
        fit = (len(memory) - abi.ENTRIES) // entry_size
        if fit < 1:
            raise ValueError(
                f"a ring in {len(memory)} bytes of memory: not one entry of {entry_size} bytes fits"
            )
        self.size: int = 1 << (fit.bit_length() - 1)
        """Entries: the largest power of two that fits."""
        self.entry_size = entry_size
        self._fence = new_fence()
        self._entries = memory[abi.ENTRIES :]
        self._places: list[memoryview | None] = [None] * self.size
        """Where each entry is, as soon as one was read there."""
        with memory[: abi.ENTRIES] as header:
            self._words = header.cast("I")

    def release(self) -> None:
        """Give up the views of the memory: it cannot be unmapped while one lives."""
        for place in self._places:
            if place is not None:
                place.release()
        self._entries.release()
        self._words.release()

    def _load(self, offset: int) -> int:
        return self._words[offset // 4]

    def _store(self, offset: int, value: int) -> None:
        self._words[offset // 4] = value & _U32

    def _read(self, index: int) -> bytes:
        number = index & (self.size - 1)
        place = self._places[number]
        return (self._place(number) if place is None else place).tobytes()

    def _place(self, number: int) -> memoryview:
        start = number * self.entry_size
        self._places[number] = place = self._entries[start : start + self.entry_size]
        return place

    def _write(self, index: int, entry: bytes) -> None:
        if len(entry) > self.entry_size:
            raise ValueError(f"{len(entry)} bytes do not fit an entry of {self.entry_size}")
        start = (index & (self.size - 1)) * self.entry_size
        self._entries[start : start + len(entry)] = entry

    def _publish(self, produced: int) -> bool:
        """Move our producer's index; whether the peer asked to be notified of that."""
        words = self._words
        before = words[self._PROD]
        words[self._PROD] = produced
        self._fence()
        return (produced - words[self._PEER_EVENT]) & _U32 < (produced - before) & _U32

    def _await(self, consumed: int) -> bool:
        """Ask for a notification of the next entry; whether there is one already."""
        words = self._words
        words[self._EVENT] = (consumed + 1) & _U32
        self._fence()
        return words[self._PEER_PROD] != consumed


class FrontRing(_End):
    """The front end's: puts requests, takes responses.

    Lays the ring out anew in `memory`. `start` is where the indices begin, 0 on every real ring.
    """

    _PROD, _EVENT = abi.REQ_PROD // 4, abi.RSP_EVENT // 4
    _PEER_PROD, _PEER_EVENT = abi.RSP_PROD // 4, abi.REQ_EVENT // 4

    def __init__(self, memory: memoryview, entry_size: int, *, start: int = 0) -> None:
        super().__init__(memory, entry_size)
        self._requested = self._answered = start & _U32
        for offset in (abi.REQ_PROD, abi.RSP_PROD):
            self._store(offset, start)
        for offset in (abi.REQ_EVENT, abi.RSP_EVENT):
            self._store(offset, start + 1)

    @property
    def free(self) -> int:
        """Requests there is room for."""
        return self.size - ((self._requested - self._answered) & _U32)

    @property
    def in_flight(self) -> int:
        """Requests put and not yet answered."""
        return (self._requested - self._answered) & _U32

    def put(self, request: bytes) -> None:
        """Write a request; the peer sees it after `push`. Raises `RingFull`."""
        if not self.free:
            raise RingFull(f"{self.size} requests are in flight")
        self._write(self._requested, request)
        self._requested = (self._requested + 1) & _U32

    def push(self) -> bool:
        """Publish what was put; true if the peer is to be notified."""
        return self._publish(self._requested)

    def take(self) -> bytes | None:
        """The next response, copied out; None if there is none.

        Raises `RingError` if the peer claims more responses than there were requests.
        """
        ready = (self._words[self._PEER_PROD] - self._answered) & _U32
        if not ready:
            return None
        if ready > self.in_flight:
            raise RingError(f"the back end claims {ready} responses to {self.in_flight} requests")
        response = self._read(self._answered)
        self._answered = (self._answered + 1) & _U32
        return response

    def idle(self) -> bool:
        """Before sleeping: ask to be notified of the next response. False if there is one now."""
        return not self._await(self._answered)


class BackRing(_End):
    """The back end's: takes requests, puts responses.

    Attaches to a ring that a front end laid out, and goes on behind the last response there, so
    that a back end which comes back finds the requests that were not answered.
    """

    _PROD, _EVENT = abi.RSP_PROD // 4, abi.REQ_EVENT // 4
    _PEER_PROD, _PEER_EVENT = abi.REQ_PROD // 4, abi.RSP_EVENT // 4

    def __init__(self, memory: memoryview, entry_size: int) -> None:
        super().__init__(memory, entry_size)
        self._taken = self._answered = self._load(abi.RSP_PROD)
        try:
            self._claimed()
        except RingError:
            self.release()
            raise

    @property
    def in_hand(self) -> int:
        """Requests taken and not yet answered."""
        return (self._taken - self._answered) & _U32

    def take(self) -> bytes | None:
        """The next request, copied out; None if there is none.

        Raises `RingError` if the peer claims more requests than the ring holds.
        """
        if not self._claimed() - self.in_hand:
            return None
        request = self._read(self._taken)
        self._taken = (self._taken + 1) & _U32
        return request

    def take_some(self, most: int) -> list[bytes]:
        """The next requests, copied out, as many as there are up to so many. Raises as `take`."""
        taken = self._taken
        count = min(self._claimed() - self.in_hand, most)
        self._taken = (taken + count) & _U32
        return [*map(self._read, range(taken, taken + count))]

    def put(self, response: bytes) -> None:
        """Write the response to a request that was taken; the peer sees it after `push`.

        Raises `RingFull` if every request that was taken is answered.
        """
        if self._answered == self._taken:
            raise RingFull("every request that was taken is answered already")
        self._write(self._answered, response)
        self._answered = (self._answered + 1) & _U32

    def push(self) -> bool:
        """Publish what was put; true if the peer is to be notified."""
        return self._publish(self._answered)

    def idle(self) -> bool:
        """Before sleeping: ask to be notified of the next request. False if there is one now."""
        return not self._await(self._taken)

    def _claimed(self) -> int:
        """Requests that are in the ring by the peer's word: those in hand, and those to come."""
        claimed = (self._words[self._PEER_PROD] - self._answered) & _U32
        if claimed > self.size:
            raise RingError(f"the front end claims {claimed} requests in a ring of {self.size}")
        return claimed
