"""Faults for a copy of the simulator, each of which the comparison has to see.

One a line of code, where somebody could have written it so: what it does wrong, the file below
`xen_sim`, what stands there, and what is put in its place.
"""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    machine: str = "explored"
    """Which machine runs the line: what is not the plain one's alone is the explored one's too."""


_CHANNELS = "xen/event_channel.py"
_TWO_LEVEL = "xen/event_2l.py"
_FIFO = "xen/event_fifo.py"
_ARGUMENTS = "xen/evtchn_op.py"
_VCPU = "xen/vcpu.py"

FAULTS = (
    # the table
    Planted(
        "the table does not grow",
        _CHANNELS,
        "self.valid += BUCKET",
        "break",
    ),
    Planted(
        "one port too many",
        _CHANNELS,
        "if channel.port > self.max_ports or",
        "if channel.port > self.max_ports + 1 or",
    ),
    Planted(
        "a refused bind keeps its port",
        _CHANNELS,
        "            self._give_back(ours)\n",
        "",
    ),
    Planted(
        "a linked port is handed out",
        _CHANNELS,
        "            if not self.ops.is_busy(channel):\n                break",
        "            break",
    ),
    Planted(
        "a masked port is told of in the plain machine",
        _TWO_LEVEL,
        "            if not self._mask[word] & bit:\n                info",
        "            if True:\n                info",
        "simulator",
    ),
    Planted(
        "the plain machine tells again what it has told",
        _TWO_LEVEL,
        "                    if not upcall & 1:\n",
        "                    if True:\n",
        "simulator",
    ),
    Planted(
        "the plain machine does not wake who polls",
        _TWO_LEVEL,
        "            if self._domain.polling:\n",
        "            if False:\n",
        "simulator",
    ),
    Planted(
        "permission is looked at before a full table",
        _CHANNELS,
        "        channel = channels._take(op)\n        if not self._may_act_for(owner):\n"
        "            channels._give_back(channel)\n",
        "        if not self._may_act_for(owner):\n",
    ),
    # what ports are bound to
    Planted(
        "a new interdomain port is not pending",
        _CHANNELS,
        "        self.set_pending(ours)\n        return port",
        "        return port",
    ),
    Planted(
        "anybody binds a port that waits for another",
        _CHANNELS,
        " or theirs.remote_domid != me:",
        ":",
    ),
    Planted(
        "self as remote is the owner",
        _CHANNELS,
        "channel.remote_domid = self._resolve(remote_domid)",
        "channel.remote_domid = channels._resolve(remote_domid)",
    ),
    Planted(
        "a VIRQ is bound twice",
        _CHANNELS,
        "        if virq in virqs:\n",
        "        if False:\n",
    ),
    Planted(
        "a closed VIRQ stays bound",
        _CHANNELS,
        "                del self.vcpus[owner].virqs[virq]\n",
        "                pass\n",
    ),
    Planted(
        "a moved VIRQ is sought where it is told",
        _CHANNELS,
        "owner = channel.vcpu if virq in PER_VCPU_VIRQS else 0",
        "owner = channel.vcpu",
    ),
    Planted(
        "an IPI moves to another vCPU",
        _CHANNELS,
        "channel.status in (Status.CLOSED, Status.IPI)",
        "channel.status is Status.CLOSED",
    ),
    Planted(
        "a closed port stays with its vCPU",
        _CHANNELS,
        "channel.status, channel.vcpu = Status.CLOSED, 0",
        "channel.status = Status.CLOSED",
    ),
    Planted(
        "a send to an unbound port is refused",
        _CHANNELS,
        "        elif channel.status is not Status.UNBOUND:\n",
        "        else:\n",
    ),
    Planted(
        "a reset leaves FIFO on",
        _CHANNELS,
        "            self.ops = two_level(self.domain)",
        "            pass",
    ),
    Planted(
        "status says nothing of a vCPU",
        _ARGUMENTS,
        "(12, _U32, (channel.vcpu,))",
        "(12, _U32, (0,))",
    ),
    Planted(
        "status writes fields that do not apply",
        _ARGUMENTS,
        "        case Status.VIRQ | Status.PIRQ:\n",
        "        case _:\n",
    ),
    # two levels
    Planted(
        "a masked event selects",
        _TWO_LEVEL,
        "if not self._mask[word] & BIT[bit]:\n                self._select(",
        "if True:\n                self._select(",
    ),
    Planted(
        "an event that is pending selects again",
        _TWO_LEVEL,
        "if self._lock.bts(self._pending, word, bit):\n                return\n",
        "self._lock.bts(self._pending, word, bit)\n",
    ),
    Planted(
        "close leaves the pending bit",
        _TWO_LEVEL,
        "        self._lock.btr(self._pending, channel.port >> 6, channel.port & 63)\n",
        "        pass\n",
    ),
    Planted(
        "unmask selects what was not masked",
        _TWO_LEVEL,
        "if self._lock.btr(self._mask, word, bit) and",
        "if self._lock.btr(self._mask, word, bit) | True and",
    ),
    Planted(
        "a selector that is set tells the vCPU again",
        _TWO_LEVEL,
        "        if not self._lock.bts(vcpu.info.pending_sel, 0, word):\n"
        "            vcpu.mark_events_pending()",
        "        self._lock.bts(vcpu.info.pending_sel, 0, word)\n"
        "        vcpu.mark_events_pending()",
    ),
    Planted(
        "an upcall that is pending is raised again",
        _VCPU,
        "        if not self._lock.bts(self.info.upcall_pending, 0, 0):\n"
        "            self.delivery.announce()",
        "        self._lock.bts(self.info.upcall_pending, 0, 0)\n        self.delivery.announce()",
    ),
    # FIFO
    Planted(
        "a masked event is linked",
        _FIFO,
        "if not words[index] & BIT[FIFO_MASKED] and not",
        "if not",
    ),
    Planted(
        "a tail that is unlinked is linked to",
        _FIFO,
        "        if not seen & BIT[FIFO_LINKED]:\n            return False, seen\n",
        "",
    ),
    Planted(
        "a port that moved stays the tail it was",
        _FIFO,
        "            tails[priority] = 0\n",
        "            pass\n",
    ),
    Planted(
        "a link leaves BUSY",
        _FIFO,
        "seen & ~(BIT[FIFO_BUSY] | FIFO_LINK_MASK)",
        "seen & ~FIFO_LINK_MASK",
    ),
    Planted(
        "a port bound anew has its last priority",
        _FIFO,
        "        channel.priority = FIFO_DEFAULT_PRIORITY\n",
        "        pass\n",
    ),
    Planted(
        "what came before its word is forgotten",
        _FIFO,
        "            channel.pending = True\n",
        "            pass\n",
    ),
    Planted(
        "close unlinks",
        _FIFO,
        "            self._lock.btr(*place, FIFO_PENDING)\n",
        "            self._lock.btr(*place, FIFO_PENDING)\n"
        "            self._lock.btr(*place, FIFO_LINKED)\n",
    ),
    Planted(
        "an event is pending for a vCPU without a control block",
        _FIFO,
        "            return  # the guest must not have unmasked it: the event is dropped\n",
        "            self._lock.bts(words, index, FIFO_PENDING)\n            return\n",
    ),
    Planted(
        "a queue that is ready tells the vCPU again",
        _FIFO,
        "        if announce and not lock.bts(control.ready, 0, queue):\n",
        "        lock.bts(control.ready, 0, queue)\n        if announce:\n",
    ),
    # polling
    Planted(
        "a poll looks at its ports before at an upcall",
        _VCPU,
        "if self.upcall_is_due() or any(map(self.domain.event_channels.poll, ports)):",
        "if any(map(self.domain.event_channels.poll, ports)) or self.upcall_is_due():",
    ),
    Planted(
        "a poll of several ports hears only of the first",
        _VCPU,
        "ports[0] if len(ports) == 1 else _ANY_PORT",
        "ports[0] if ports else _ANY_PORT",
    ),
    Planted(
        "a poll is not ended by a masked event",
        _TWO_LEVEL,
        "self._select(vcpu, word)\n            self._domain.check_pollers(port)",
        "self._select(vcpu, word)\n                self._domain.check_pollers(port)",
    ),
    Planted(
        "block leaves a PV guest's mask",
        _VCPU,
        "        self._plain.upcall_mask[0] = 0\n",
        "",
    ),
)
