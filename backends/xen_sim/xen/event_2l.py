"""The two-level ABI: a pending and a mask bit for each port, and a selector word for each vCPU.

The order of the steps is Xen's (xen/common/event_2l.c), and every one that finds its bit set
already ends it: who set that bit has told, or will tell, the vCPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import GreenletExit

from activations.abi.event_channel import MAX_PORTS_2L
from xen_sim.hardware.memory import BIT
from xen_sim.shared_info import EventWords

if TYPE_CHECKING:
    from xen_sim.xen.channel import Channel
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.vcpu import VCPU


def two_level(domain: XenDomain) -> TwoLevel:
    """The port operations for a domain, explored or not."""
    return TwoLevel(domain) if domain.xen.explored else PlainTwoLevel(domain)


class TwoLevel:
    """evtchn_port_ops of the two-level ABI."""

    name = "two-level"
    max_ports = MAX_PORTS_2L
    has_priorities = False

    def __init__(self, domain: XenDomain) -> None:
        self._domain = domain
        self._lock = domain.xen.lock
        words = EventWords(domain.shared_info, domain.before, f" of {domain.name}")
        self._pending = words.pending
        self._mask = words.mask

    def init(self, channel: Channel) -> None:
        """A port was bound: there is nothing to prepare."""

    def set_pending(self, vcpu: VCPU, channel: Channel) -> None:
        """An event: pending, selector, upcall, and those who poll. Broken off by a signal handler,
        it is done again in full: at worst there is an upcall for nothing."""
        port = channel.port
        word, bit = port >> 6, port & 63
        try:
            if self._lock.bts(self._pending, word, bit):
                return
            if not self._mask[word] & BIT[bit]:
                self._select(vcpu, word)
            self._domain.check_pollers(port)
        except GreenletExit:
            raise
        except BaseException:
            self._again(vcpu, port)
            raise

    def _again(self, vcpu: VCPU, port: int) -> None:
        word, bit = port >> 6, port & 63
        self._lock.bts(self._pending, word, bit)
        if not self._mask[word] & BIT[bit]:
            self._lock.bts(vcpu.info.pending_sel, 0, word)
            self._lock.bts(vcpu.info.upcall_pending, 0, 0)
            vcpu.delivery.announce()
        self._domain.check_pollers(port)
        vcpu.cpu.wake()

    def clear_pending(self, channel: Channel) -> None:
        self._lock.btr(self._pending, channel.port >> 6, channel.port & 63)

    def unmask(self, vcpu: VCPU, channel: Channel) -> None:
        """Acts only on a masked port: what came meanwhile is told now."""
        word, bit = channel.port >> 6, channel.port & 63
        if self._lock.btr(self._mask, word, bit) and self._pending[word] & BIT[bit]:
            self._select(vcpu, word)

    def is_pending(self, port: int) -> bool:
        return self._pending[port >> 6] & BIT[port & 63] != 0

    def is_masked(self, port: int) -> bool:
        return self._mask[port >> 6] & BIT[port & 63] != 0

    def is_busy(self, channel: Channel) -> bool:
        """Whether a closed port cannot be handed out yet: here it always can."""
        return False

    def destroy(self) -> None:
        """The bits stay as they are."""

    def _select(self, vcpu: VCPU, word: int) -> None:
        if not self._lock.bts(vcpu.info.pending_sel, 0, word):
            vcpu.mark_events_pending()


class PlainTwoLevel(TwoLevel):
    """The same on a machine that is not explored, where steps are not interleaved: the same
    bytes, in fewer calls. This is what every event of a plain machine goes through."""

    def set_pending(self, vcpu: VCPU, channel: Channel) -> None:
        port = channel.port
        word, bit = port >> 6, BIT[port & 63]
        try:
            pending = self._pending[word]
            if pending & bit:
                return
            self._pending[word] = pending | bit
            if not self._mask[word] & bit:
                info = vcpu.info
                selected, bit = info.pending_sel[0], BIT[word]
                if not selected & bit:
                    info.pending_sel[0] = selected | bit
                    upcall = info.upcall_pending[0]
                    if not upcall & 1:
                        info.upcall_pending[0] = upcall | 1
                        vcpu.delivery.announce()
            if self._domain.polling:
                self._domain.check_pollers(port)
        except GreenletExit:
            raise
        except BaseException:
            self._again(vcpu, port)
            raise
