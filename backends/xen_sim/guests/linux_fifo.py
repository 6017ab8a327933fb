"""Linux's lower half on the FIFO ABI.

At boot each vCPU gives Xen its control block, and the array of event words grows as ports are
bound, its pages masked beforehand. The handler exchanges `ready` for 0, and takes events from the
highest queue that has any, looking at `ready` afresh after each: a higher queue goes first.

An event is taken by clearing LINKED and the link in one cmpxchg, which also says which is next; the
queue's head is kept locally while the queue lasts. What is pending and not masked is delivered: it
is masked and its PENDING cleared.

To unmask, it clears MASKED by a cmpxchg that waits while Xen holds the word BUSY; a word that is
PENDING is left to Xen, by EVTCHNOP_unmask, which links it.
"""

from __future__ import annotations

from collections.abc import Sequence

from activations.abi.event_channel import (
    FIFO_BUSY,
    FIFO_LINK_MASK,
    FIFO_LINKED,
    FIFO_MASKED,
    FIFO_PENDING,
    FIFO_QUEUES,
    FIFO_WORDS_PER_PAGE,
)
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Platform
from xen_sim.hardware.memory import BIT, Frame, Words
from xen_sim.shared_info import ControlBlock, event_array

_MASKED, _LINKED, _BUSY = BIT[FIFO_MASKED], BIT[FIFO_LINKED], BIT[FIFO_BUSY]
_PENDING = BIT[FIFO_PENDING]
_ALL_QUEUES = (1 << FIFO_QUEUES) - 1


_ARRAY = "fifo event array"
"""The frames of the domain's event array, among what its vCPUs share."""


class LinuxFifo(Kernel):
    """Linux on one of its vCPUs."""

    name = "linux-fifo"
    multiprocessor = True

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self.upcall_pending: Words = self.info.upcall_pending
        self.noted: list[int] = []
        """What the handler found, for `demux`."""
        self._heads = [0] * FIFO_QUEUES
        """The port that is next in each queue, as this vCPU knows it; 0 where it has to look."""
        self._frame = platform.new_frame()
        self.control: ControlBlock = ControlBlock(self._frame, 0, self.cpu.before)
        self._array: list[Frame] = platform.shared.setdefault(_ARRAY, [])
        self._pages: list[Words] = []
        """This vCPU's views of the array."""
        self._timer_set = False
        self._in_hand = 0
        """The port that is being taken, or was last."""
        self._broken_off = False
        """A handler did not come to its end: every queue is to be looked at."""

    def prepare(self) -> None:
        """Also after a suspend: Xen has forgotten what it was given."""
        self._frame.bytes[:] = bytes(len(self._frame.bytes))
        self._heads = [0] * FIFO_QUEUES
        self.noted.clear()
        self._pages.clear()
        if self.platform.vcpu == 0:
            self._array.clear()
        self.xen.init_control(self._frame.number, 0, self.platform.vcpu)
        if self.platform.vcpu == 0:
            self._grow(0)

    def bound(self, port: int) -> None:
        self._grow(port)

    def _grow(self, port: int) -> None:
        """A port needs a word."""
        while port >= len(self._array) * FIFO_WORDS_PER_PAGE:
            frame = self.platform.new_frame()
            words = frame.plain(0, len(frame.bytes), "I")
            for index in range(FIFO_WORDS_PER_PAGE):
                words[index] = _MASKED
            self._array.append(frame)
            self.xen.expand_array(frame.number)

    # Taking events

    def upcall(self) -> None:
        self.upcalls.acknowledge()
        try:
            again = True
            while again:
                self.upcall_pending[0] = 0
                self._take_all()
                again = self.upcall_pending[0] != 0
        except BaseException:
            self._broken_off = True
            self.upcall_pending[0] = 1
            raise

    def _take_all(self) -> None:
        """The highest queue first, and whatever has become ready meanwhile."""
        ready = self.lock.xchg(self.control.ready, 0, 0)
        if self._broken_off:
            self._note(self._in_hand)
            ready = _ALL_QUEUES
            self._broken_off = False
        while ready:
            queue = (ready & -ready).bit_length() - 1
            if self._take_one(queue):
                ready &= ~(1 << queue)
            ready |= self.lock.xchg(self.control.ready, 0, 0)

    def _take_one(self, queue: int) -> bool:
        """The next event of a queue; true if that was the last."""
        port = self._heads[queue] or self.control.head[queue]
        self._in_hand = port
        words, index = self._place(port)
        link = self.unlink(words, index)
        self._heads[queue] = link
        word = words[index]
        if word & _PENDING and not word & _MASKED:
            self._note(port)
        return not link

    def _note(self, port: int) -> None:
        words, index = self._place(port)
        self.noted.append(port)
        self.lock.bts(words, index, FIFO_MASKED)
        self.lock.btr(words, index, FIFO_PENDING)

    def unlink(self, words: Words, index: int) -> int:
        """Clear LINKED and the link; give the link."""
        seen = words[index]
        while True:
            new = seen & ~(_LINKED | FIFO_LINK_MASK)
            found = self.lock.cmpxchg(words, index, seen, new)
            if found == seen:
                return seen & FIFO_LINK_MASK
            seen = found

    def demux(self) -> Sequence[int]:
        if self.noted:
            self.taken.extend(self.noted)
            self.noted.clear()
        return self.taken

    # Masking

    def mask(self, port: int) -> None:
        self.lock.bts(*self._place(port), FIFO_MASKED)

    def unmask_port(self, port: int) -> None:
        if not self._clear_masked(*self._place(port)):
            self.xen.unmask(port)

    def _clear_masked(self, words: Words, index: int) -> bool:
        """Unmask a word that is not pending; false for one that is."""
        seen = words[index]
        while seen & _MASKED:
            if seen & _PENDING:
                return False
            old = seen & ~_BUSY
            found = self.lock.cmpxchg(words, index, old, old & ~_MASKED)
            if found == old:
                return True
            if found & _BUSY:
                self.cpu.pause()
            seen = found
        return True

    def block(self, deadline: int | None) -> None:
        self.upcalls.disable()
        if self.noted:
            self.upcalls.enable()
            return
        if deadline is not None or self._timer_set:
            self._timer_set = deadline is not None
            self.xen.set_singleshot_timer(deadline)
        self.upcalls.sleep()

    def _place(self, port: int) -> tuple[Words, int]:
        page, index = divmod(port, FIFO_WORDS_PER_PAGE)
        while page >= len(self._pages):
            self._pages.append(event_array(self._array[len(self._pages)], self.cpu.before))
        return self._pages[page], index
