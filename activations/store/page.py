"""The page a guest shares with xenstored: a ring of requests, one of replies, and a few words.

Source: xen/include/public/io/xs_wire.h, docs/misc/xenstore-ring.txt. Both ends use it alike: the
guest writes `requests` and reads `responses`, xenstored the other way round.
"""

from __future__ import annotations

from activations.abi import xs_wire
from activations.abi.xs_wire import RING_REQ, RING_RSP, RING_SIZE
from activations.ring import ByteRing


class StorePage:
    """The rings of one page of 4096 bytes. Indices may start anywhere."""

    __slots__ = ("_words", "requests", "responses")

    def __init__(self, page: memoryview) -> None:
        self.requests: ByteRing = ByteRing(
            page[RING_REQ : RING_REQ + RING_SIZE],
            page,
            cons=xs_wire.REQ_CONS,
            prod=xs_wire.REQ_PROD,
        )
        self.responses: ByteRing = ByteRing(
            page[RING_RSP : RING_RSP + RING_SIZE],
            page,
            cons=xs_wire.RSP_CONS,
            prod=xs_wire.RSP_PROD,
        )
        self._words = page.cast("I")

    @property
    def features(self) -> int:
        """`ServerFeature` bits, set by xenstored."""
        return self._words[xs_wire.SERVER_FEATURES // 4]

    @features.setter
    def features(self, value: int) -> None:
        self._words[xs_wire.SERVER_FEATURES // 4] = value

    @property
    def fault(self) -> int:
        """A `RingFault`: 0 while xenstored listens."""
        return self._words[xs_wire.ERROR // 4]

    @fault.setter
    def fault(self, value: int) -> None:
        self._words[xs_wire.ERROR // 4] = value

    def restart(self) -> None:
        """Empty rings, whose indices begin at 0: xenstored's to do, for a domain that is introduced
        again."""
        for index in (xs_wire.REQ_CONS, xs_wire.REQ_PROD, xs_wire.RSP_CONS, xs_wire.RSP_PROD):
            self._words[index // 4] = 0
