"""The FIFO ABI: an event word for each port, linked into a queue for each vCPU and priority.

    control block of a vCPU     event words of the domain
    ready   bit p: queue p has   port 5: PENDING | LINKED | link 9
            events               port 9: PENDING | LINKED | link 0
    head[p] = 5

Xen appends at the tail, which it alone knows; the guest takes from the head, and unlinks by
clearing LINKED and the link together. So Xen links a new event to the tail only if the tail's word
is LINKED still, and else writes the head: that decision must be one cmpxchg. The guest may mask,
unmask and clear PENDING meanwhile, which makes the cmpxchg fail; after a first failure Xen sets
BUSY, which keeps the guest from unmasking.

A port that is closed while LINKED stays on its queue: it is not handed out again before the guest
has taken it off.

Source: xen/common/event_fifo.c. The guest can write what it likes into its words: it hurts itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activations.abi.event_channel import (
    FIFO_BUSY,
    FIFO_DEFAULT_PRIORITY,
    FIFO_LINK_MASK,
    FIFO_LINKED,
    FIFO_MASKED,
    FIFO_MAX_PAGES,
    FIFO_PENDING,
    FIFO_QUEUES,
    FIFO_WORDS_PER_PAGE,
    MAX_PORTS_FIFO,
)
from xen_sim.hardware.memory import BIT, Frame, Words
from xen_sim.shared_info import ControlBlock, event_array

if TYPE_CHECKING:
    from xen_sim.xen.channel import Channel
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.vcpu import VCPU

_LINK_ATTEMPTS = 4
"""A guest has three changes to make to a word; a cmpxchg that fails more often is its mischief."""

Place = tuple[Words, int]
"""An event word: a page of the array, and the index in it."""


class Queues:
    """struct evtchn_fifo_vcpu: one vCPU's control block and the tails of its queues."""

    __slots__ = ("control", "tails")

    def __init__(self) -> None:
        self.control: ControlBlock | None = None
        self.tails: list[int] = [0] * FIFO_QUEUES


class Fifo:
    """evtchn_port_ops of the FIFO ABI, and the domain's event array."""

    name = "FIFO"
    max_ports = MAX_PORTS_FIFO
    has_priorities = True

    def __init__(self, domain: XenDomain) -> None:
        self._domain = domain
        self._lock = domain.xen.lock
        self._array: list[Words] = []
        self._queues = [Queues() for _ in domain.vcpus]

    # Setting it up

    def map_control(self, vcpu: int, frame: Frame | None, offset: int) -> bool:
        """A vCPU's control block; false if it has one, or there is no such frame."""
        queues = self._queues[vcpu]
        if queues.control is not None or frame is None:
            return False
        domain = self._domain
        queues.control = ControlBlock(frame, offset, domain.before, f" of {domain.name}")
        return True

    @property
    def full(self) -> bool:
        return len(self._array) == FIFO_MAX_PAGES

    def add_page(self, frame: Frame) -> range:
        """A further page of the event array; which ports now have words."""
        domain = self._domain
        first = len(self._array) * FIFO_WORDS_PER_PAGE
        self._array.append(event_array(frame, domain.before, f" of {domain.name}"))
        return range(first, first + FIFO_WORDS_PER_PAGE)

    def destroy(self) -> None:
        """Back to two levels: the pages are the guest's again."""
        self._array.clear()

    # evtchn_port_ops

    def init(self, channel: Channel) -> None:
        """A port was bound: it begins with the default priority."""
        channel.priority = FIFO_DEFAULT_PRIORITY

    def set_pending(self, vcpu: VCPU, channel: Channel) -> None:
        """An event: PENDING; unless masked or linked already, into the queue; and the vCPU is told
        where that queue was empty."""
        port = channel.port
        place = self._place(port)
        if place is None:
            channel.pending = True
            return
        words, index = place
        queues = self._queues[vcpu.number]
        control = queues.control
        if control is None:
            return  # the guest must not have unmasked it: the event is dropped
        lock = self._lock
        queue = channel.priority
        came = not lock.bts(words, index, FIFO_PENDING)
        announce = False
        if not words[index] & BIT[FIFO_MASKED] and not lock.bts(words, index, FIFO_LINKED):
            self._leave_last_queue(channel, (vcpu.number, queue))
            tail = queues.tails[queue]
            announce = not (tail and self._link(tail, port))
            if announce:
                control.head[queue] = port
            queues.tails[queue] = port
        if announce and not lock.bts(control.ready, 0, queue):
            vcpu.mark_events_pending()
        if came:
            self._domain.check_pollers(port)

    def clear_pending(self, channel: Channel) -> None:
        """The word stays linked: the guest unlinks what is not pending."""
        if place := self._place(channel.port):
            self._lock.btr(*place, FIFO_PENDING)

    def unmask(self, vcpu: VCPU, channel: Channel) -> None:
        if place := self._place(channel.port):
            words, index = place
            self._lock.btr(words, index, FIFO_MASKED)
            if words[index] & BIT[FIFO_PENDING]:
                self.set_pending(vcpu, channel)

    def is_pending(self, port: int) -> bool:
        return self._has(port, FIFO_PENDING)

    def is_masked(self, port: int) -> bool:
        return self._place(port) is None or self._has(port, FIFO_MASKED)

    def is_busy(self, channel: Channel) -> bool:
        """Whether a closed port is on a queue still."""
        return self._has(channel.port, FIFO_LINKED)

    # The queues

    def _place(self, port: int) -> Place | None:
        page = port // FIFO_WORDS_PER_PAGE
        if page >= len(self._array):
            return None
        return self._array[page], port % FIFO_WORDS_PER_PAGE

    def _has(self, port: int, bit: int) -> bool:
        place = self._place(port)
        return place is not None and place[0][place[1]] & BIT[bit] != 0

    def _leave_last_queue(self, channel: Channel, queue: tuple[int, int]) -> None:
        """A port that was the tail of its last queue, and is not linked, has emptied that: nothing
        may be linked to it there any more."""
        vcpu, priority = channel.queue
        tails = self._queues[vcpu].tails
        if tails[priority] == channel.port:
            tails[priority] = 0
        channel.queue = queue

    def _link(self, tail: int, port: int) -> bool:
        """Link a port behind the tail; false if the tail is not linked, so the queue is empty."""
        place = self._place(tail)
        assert place is not None, "a tail has a word"
        words, index = place
        seen = words[index]
        done, seen = self._try_link(place, seen, port)
        if done is not None:
            return done
        self._lock.bts(words, index, FIFO_BUSY)
        seen = words[index]
        for _ in range(_LINK_ATTEMPTS):
            done, seen = self._try_link(place, seen, port)
            if done is not None:
                if not done:
                    self._lock.btr(words, index, FIFO_BUSY)
                return done
        self._lock.btr(words, index, FIFO_BUSY)
        return True

    def _try_link(self, place: Place, seen: int, port: int) -> tuple[bool | None, int]:
        """One cmpxchg: whether it was linked (None: the word has changed), and what was there."""
        if not seen & BIT[FIFO_LINKED]:
            return False, seen
        new = seen & ~(BIT[FIFO_BUSY] | FIFO_LINK_MASK) | port
        found = self._lock.cmpxchg(*place, seen, new)
        return (True if found == seen else None), found
