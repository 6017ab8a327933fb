"""One queue of a network back end: its two rings mapped, its ports bound.

Packets are copied by Xen, many in one call: their pages are never mapped, so a front end that
changes one meanwhile changes a packet and nothing else. Where Xen refuses a batch, each packet of
it is tried by itself, and the one at fault is found.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from activations.abi import netif as abi
from activations.abi.grant_table import PAGE_SIZE
from activations.abi.netif import Status
from activations.bell import bell
from activations.domain import Domain
from activations.drivers.net import checksum, receive, transmit
from activations.drivers.net.errors import BadPacket
from activations.drivers.net.queues import QueueKeys
from activations.drivers.net.receive import Offered
from activations.drivers.net.statistics import Statistics
from activations.drivers.net.transmit import Gatherer, Packet
from activations.drivers.net.wire import BATCH, Interface
from activations.errors import XenError
from activations.lower import Foreign, Segment
from activations.port import PROGRAM_START, Port
from activations.sring import BackRing

_POLL = 0.01
"""Seconds between looks at the ring of a front end that does not ring for empty pages."""

Copy = Callable[[Sequence[Segment]], None]


class Terms(NamedTuple):
    """What a front end's queues have in common."""

    xen: Domain
    domid: int
    """The front end's."""
    sg: bool
    """It takes packets of several pages."""
    rx_notify: bool
    """It rings when it has put empty pages into the ring."""
    statistics: Statistics
    log: Any


class BackQueue:
    """A queue, connected until `close`. Raises `XenError` where Xen refuses to connect it, and
    `RingError` for a ring that is broken already."""

    def __init__(self, terms: Terms, keys: QueueKeys) -> None:
        xen, domid = terms.xen, terms.domid
        with ExitStack() as undo:
            tx_port = undo.enter_context(xen.events.bind_interdomain(domid, keys.tx_port))
            rx_port = tx_port
            if keys.rx_port != keys.tx_port:
                rx_port = undo.enter_context(xen.events.bind_interdomain(domid, keys.rx_port))
            tx_page = undo.enter_context(xen.grants.map(domid, [keys.tx_ring]))
            rx_page = undo.enter_context(xen.grants.map(domid, [keys.rx_ring]))
            tx_ring = BackRing(tx_page.memory, abi.TX_ENTRY_SIZE)
            undo.callback(tx_ring.release)
            rx_ring = BackRing(rx_page.memory, abi.RX_ENTRY_SIZE)
            undo.callback(rx_ring.release)
            self._held = undo.pop_all()
        self.from_guest: FromGuest = FromGuest(terms, tx_ring, tx_port)
        self.to_guest: ToGuest = ToGuest(terms, rx_ring, rx_port)

    def close(self) -> None:
        """Unmap the rings, close the ports."""
        self._held.close()


class FromGuest:
    """The tx ring: what the front end sends."""

    def __init__(self, terms: Terms, ring: BackRing, port: Port) -> None:
        self._terms = terms
        self._ring = ring
        self._port = port
        self._ring_bell = bell(port)
        self._gatherer = Gatherer()

    async def pass_on(self, wire: Interface) -> None:
        """Give every packet to the wire, until cancelled. Raises `RingError` and `NetError` if the
        front end breaks the protocol."""
        seen = PROGRAM_START
        waiting: deque[bytes] = deque()
        try:
            while True:
                waiting.extend(self._frames())
                while waiting:
                    await wire.send(waiting[0])
                    del waiting[0]
                await asyncio.sleep(0)  # others run, though the ring is never empty
                if self._ring.idle():
                    seen = await self._port.after(seen)
        finally:
            self._terms.statistics.lost += len(waiting)

    def _frames(self) -> list[bytes]:
        """The next packets, copied and answered."""
        packets = self._take()
        frames = []
        buffers = [bytearray(packet.size) for packet in packets]
        segments = [self._segments(*each) for each in zip(packets, buffers, strict=True)]
        copied = copy_each(self._terms.xen.grants.copy, segments)
        for packet, buffer, error in zip(packets, buffers, copied, strict=True):
            try:
                if error is not None:
                    raise BadPacket(packet.ids, str(error))
                if packet.csum_blank:
                    checksum.complete(buffer)
            except (BadPacket, checksum.NoChecksum) as fault:
                self._refuse(packet.ids, fault)
            else:
                self._answer(packet.ids, Status.OKAY)
                frames.append(bytes(buffer))
        self._terms.statistics.received += len(frames)
        if self._ring.push():
            self._ring_bell()
        return frames

    def _take(self) -> list[Packet]:
        """What is in the ring, at most `BATCH` entries of it; what is not a packet is answered."""
        packets = []
        for _ in range(BATCH):
            if (entry := self._ring.take()) is None:
                break
            try:
                packet = self._gatherer.add(entry)
            except BadPacket as fault:
                self._refuse(fault.ids, fault)
            else:
                if packet is not None:
                    packets.append(packet)
        return packets

    def _segments(self, packet: Packet, buffer: bytearray) -> list[Segment]:
        domid, view, at = self._terms.domid, memoryview(buffer), 0
        segments = []
        for ref, offset, size in packet.pieces:
            segments.append(Segment(Foreign(domid, ref, offset), view[at : at + size], size))
            at += size
        return segments

    def _refuse(self, ids: Sequence[int | None], fault: Exception) -> None:
        self._terms.statistics.bad += 1
        self._terms.log.debug("bad packet", reason=str(fault))
        self._answer(ids, Status.ERROR)

    def _answer(self, ids: Sequence[int | None], status: Status) -> None:
        for response in transmit.encode_responses(ids, status):
            self._ring.put(response)


class ToGuest:
    """The rx ring: what the front end receives."""

    def __init__(self, terms: Terms, ring: BackRing, port: Port) -> None:
        self._terms = terms
        self._ring = ring
        self._port = port
        self._ring_bell = bell(port)
        self._offered: deque[Offered] = deque()
        self._seen = PROGRAM_START

    async def deliver(self, waiting: deque[bytes]) -> None:
        """Give frames to the front end and take them from `waiting`, until it has offered pages
        for all. Frames that it cannot take are lost. Raises `RingError` if it breaks the ring."""
        while waiting:
            if placed := self._place(waiting):
                self._hand_over(placed)
            elif waiting and self._ring.idle():
                await self._event()
            await asyncio.sleep(0)

    def _place(self, waiting: deque[bytes]) -> list[tuple[bytes, list[Offered]]]:
        """Take frames from those that wait for as long as there are pages for them."""
        placed = []
        while waiting:
            length = len(waiting[0])
            needed = transmit.slots(length)
            if not transmit.HEADER <= length <= (abi.MAX_TX_SIZE if self._terms.sg else PAGE_SIZE):
                waiting.popleft()
                self._terms.statistics.lost += 1
                continue
            while len(self._offered) < needed and (entry := self._ring.take()) is not None:
                self._offered.append(receive.decode_request(entry))
            if len(self._offered) < needed:
                break
            placed.append((waiting.popleft(), [self._offered.popleft() for _ in range(needed)]))
        return placed

    def _hand_over(self, placed: Sequence[tuple[bytes, list[Offered]]]) -> None:
        statistics = self._terms.statistics
        copied = copy_each(
            self._terms.xen.grants.copy, [self._segments(frame, pages) for frame, pages in placed]
        )
        for (frame, pages), error in zip(placed, copied, strict=True):
            if error is None:
                statistics.sent += 1
                responses = receive.encode(pages, len(frame))
            else:
                statistics.lost += 1
                self._terms.log.debug("frame not delivered", reason=str(error))
                responses = receive.encode_failure(pages)
            for response in responses:
                self._ring.put(response)
        if self._ring.push():
            self._ring_bell()

    def _segments(self, frame: bytes, pages: Sequence[Offered]) -> list[Segment]:
        domid, view, at = self._terms.domid, memoryview(frame), 0
        segments = []
        for page, size in zip(pages, transmit.sizes(len(frame)), strict=True):
            segments.append(Segment(view[at : at + size], Foreign(domid, page.ref), size))
            at += size
        return segments

    async def _event(self) -> None:
        """Wait until the front end has put pages into the ring, or may have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._terms.rx_notify else _POLL):
                self._seen = await self._port.after(self._seen)


def copy_each(copy: Copy, packets: Sequence[Sequence[Segment]]) -> list[XenError | None]:
    """Copy packets of several segments each; what Xen said of each that it would not copy."""
    try:
        copy([segment for packet in packets for segment in packet])
    except XenError:
        return [_refusal(copy, packet) for packet in packets]
    return [None] * len(packets)


def _refusal(copy: Copy, packet: Sequence[Segment]) -> XenError | None:
    try:
        copy(packet)
    except XenError as error:
        return error.with_traceback(None)
    return None
