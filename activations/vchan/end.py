"""One end of a vchan, as operations on shared memory: nothing here waits.

The hazard is the lost wake-up. An end that finds nothing to do asks for an event by setting a bit
in the other's notify byte, looks once more, and only then sleeps; an end that has moved an index
looks at its own notify byte and sends the event it was asked for.

    reader                                 writer
    set WRITE in the writer's byte         store bytes, then prod
    ---- fence ----                        ---- fence ----
    load prod; nothing? sleep              load its byte; WRITE set? clear it, send

Either the reader sees the new index or the writer sees the bit, provided that neither load
overtakes the store before it: `fence.py` says what keeps them apart.

The second difficulty is clearing a bit. libxenvchan does it with an atomic AND; from Python it
is a load and a store, and a bit that the other end sets between the two is wiped out. So a notify
byte is only ever stored to by an end that then sends an event. The end whose bit was wiped out had
set it before that store, so the event reaches it before or in its sleep; it looks at everything
anew and asks again. That costs at most one event too many, and no event is lost. Setting a bit
is a load and a store too, but only the asker sets bits: at worst it sets one anew that was just
cleared, again for an event too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from activations.abi import vchan as abi
from activations.abi.vchan import Live, Notify
from activations.fence import new_fence
from activations.ring import ByteRing, RingError
from activations.vchan.errors import VchanError


class Fields(NamedTuple):
    """Which fields of the control page are whose, seen from one end."""

    own_live: int
    peer_live: int
    asked: int
    """The notify byte that this end is asked through."""
    asks: int
    """The one it asks through."""
    incoming: tuple[int, int]
    """cons and prod of the ring that it reads."""
    outgoing: tuple[int, int]


_GONE = int(Live.GONE)
_WRITE, _READ = int(Notify.WRITE), int(Notify.READ)
_ALL = _WRITE | _READ
"""As plain numbers: enum's arithmetic would cost a third of a small read."""

_LEFT = (abi.LEFT_CONS, abi.LEFT_PROD)
_RIGHT = (abi.RIGHT_CONS, abi.RIGHT_PROD)
SERVER = Fields(abi.SRV_LIVE, abi.CLI_LIVE, abi.SRV_NOTIFY, abi.CLI_NOTIFY, _LEFT, _RIGHT)
CLIENT = Fields(abi.CLI_LIVE, abi.SRV_LIVE, abi.CLI_NOTIFY, abi.SRV_NOTIFY, _RIGHT, _LEFT)


class End:
    """One end, on views that it owns: the control page and the bytes of each ring.

    `notify` sends the other end an event. Reading and writing raise `VchanError` if the other
    end broke the ring.
    """

    def __init__(
        self,
        fields: Fields,
        control: memoryview,
        incoming: memoryview,
        outgoing: memoryview,
        notify: Callable[[], None],
    ) -> None:
        self._fields = fields
        self._asked = fields.asked
        self._peer_live = fields.peer_live
        self._control = control
        self._incoming = _ring(incoming, control, fields.incoming)
        self._outgoing = _ring(outgoing, control, fields.outgoing)
        self._notify = notify
        self._fence = new_fence()

    # Who is there

    @property
    def peer(self) -> int:
        """What the control page says of the other end, a `Live` if it keeps to the protocol."""
        return self._control[self._peer_live]

    @property
    def peer_left(self) -> bool:
        return self._control[self._peer_live] == _GONE

    def expect(self) -> None:
        """This end is there and the other is yet to come: the server's beginning."""
        self._control[self._fields.peer_live] = Live.WAITING
        self._control[self._fields.own_live] = Live.CONNECTED
        self._control[self._fields.asks] = Notify.WRITE

    def arrive(self) -> None:
        """This end has come to the other: the client's beginning."""
        self._control[self._fields.own_live] = Live.CONNECTED
        self._control[self._fields.asks] = Notify.WRITE
        self._notify()

    def leave(self) -> None:
        """This end goes. What it wrote stays to be read."""
        self._control[self._fields.own_live] = Live.GONE
        self._notify()

    def lose_peer(self) -> None:
        """The other end's domain is gone, and cannot say so itself."""
        self._control[self._peer_live] = Live.GONE

    def release(self) -> None:
        """Give up the views: the pages cannot be unmapped while one lives."""
        self._incoming.release()
        self._outgoing.release()
        self._control.release()

    # Bytes

    def read(self, limit: int) -> bytes:
        """What there is, at most `limit` bytes; empty if there is nothing."""
        try:
            data = self._incoming.read(limit)
        except RingError as error:
            raise VchanError(f"the other end broke the ring it writes: {error}") from None
        if data:
            self._tell(_READ)
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Write as much as there is room for; give how many bytes that was."""
        try:
            count = self._outgoing.write(data)
        except RingError as error:
            raise VchanError(f"the other end broke the ring it reads: {error}") from None
        if count:
            self._tell(_WRITE)
        return count

    def ask(self, about: Notify) -> None:
        """Have the other end send an event once it has written, or read. Then look once more
        before sleeping, and ask again after every event: see above."""
        self._control[self._fields.asks] |= about
        self._fence()

    def _tell(self, done: int) -> None:
        self._fence()  # the load below does not overtake the store above
        asked = self._control[self._asked]
        if asked & done:
            self._control[self._asked] = asked & _ALL & ~done
            self._notify()


def _ring(data: memoryview, control: memoryview, indices: tuple[int, int]) -> ByteRing:
    cons, prod = indices
    return ByteRing(data, control, cons=cons, prod=prod)
