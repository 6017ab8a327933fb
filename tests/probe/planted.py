"""Faults for a copy of the simulator, in what xen_oracle cannot see: processors, timers, grants."""

from __future__ import annotations

from xen_oracle.planted import Planted

_APIC = "hardware/apic.py"
_CPU = "hardware/cpu.py"
_DELIVERY = "xen/delivery.py"
_HYPERCALL = "xen/hypercall.py"
_TIMER = "xen/timer.py"

FAULTS = (
    Planted(
        "registering the upcall vector asserts nothing",
        _DELIVERY,
        "acknowledge=self._apic.acknowledge)\n        self.announce()\n",
        "acknowledge=self._apic.acknowledge)\n",
    ),
    Planted(
        "the callback vector is an edge",
        _DELIVERY,
        'evtchn_upcall_pending is set."""\n\n    level = True',
        'evtchn_upcall_pending is set."""\n\n    level = False',
    ),
    Planted(
        "an EOI ends nothing",
        _APIC,
        "            self.isr &= ~(1 << (self.isr.bit_length() - 1))",
        "            pass",
    ),
    Planted(
        "a vector in service holds none back",
        _APIC,
        "        return not isr or (irr.bit_length() - 1) >> 4 > (isr.bit_length() - 1) >> 4",
        "        return True",
    ),
    Planted(
        "a hlt with an interrupt due sleeps",
        _CPU,
        "        if self.due or self.line.level:\n            self.sleep()",
        "        if False:\n            self.sleep()",
    ),
    Planted(
        "behind a port there is 0",
        _CPU,
        "NO_DEVICE = 0xFF",
        "NO_DEVICE = 0",
    ),
    Planted(
        "a vector below 16 is taken",
        _HYPERCALL,
        "        if not FIRST_VECTOR <= vector < 256 or self._domain.pv:\n"
        '            raise XenError(EINVAL, "HVMOP_set_evtchn',
        '        if self._domain.pv:\n            raise XenError(EINVAL, "HVMOP_set_evtchn',
    ),
    Planted(
        "a vCPU sets another's timer",
        _HYPERCALL,
        "if vcpu is not None and self._of(op, vcpu) is not self._vcpu:",
        "if vcpu is not None and self._of(op, vcpu) is None:",
    ),
    Planted(
        "a vCPU that there is not is down",
        _HYPERCALL,
        '            raise XenError(ENOENT, f"VCPUOP_{op}"',
        '            raise XenError(EINVAL, f"VCPUOP_{op}"',
    ),
    Planted(
        "a timer is periodic every microsecond",
        _TIMER,
        "period < PERIOD_MIN_NS",
        "period < 1000",
    ),
    Planted(
        "all timers are vCPU 0's",
        _TIMER,
        "raise_virq(Virq.TIMER, vcpu.number)",
        "raise_virq(Virq.TIMER, 0)",
    ),
    Planted(
        "a timer fires unheard",
        _TIMER,
        "        self._singleshot = None\n        self._raise()",
        "        self._singleshot = None",
    ),
)


_GRANTS = "xen/grant_table.py"
_GNTTAB_OP = "xen/gnttab_op.py"

OF_GRANTS = (
    Planted(
        "a sub-page grant is mapped",
        _GRANTS,
        "looked_at = _TYPE_TO_MAP if mapping else _TYPE",
        "looked_at = _TYPE",
    ),
    Planted(
        "a read-only entry that is read already is written",
        _GRANTS,
        "            self._mark(ref, self.entry(ref), writable)\n            if not",
        "            if not",
    ),
    Planted(
        "an entry is looked at whenever it is mapped",
        _GRANTS,
        "        if active is None:\n            active = self._begin_use",
        "        if active is None or mapping:\n            active = self._begin_use",
    ),
    Planted(
        "a copy does not look again at what an entry names",
        _GRANTS,
        "            if not mapping:\n                self._check_still(ref, active, writable)\n",
        "",
    ),
    Planted(
        "a page is mapped 129 times",
        _GRANTS,
        "MOST_PINS = 128",
        "MOST_PINS = 129",
    ),
    Planted(
        "GTF_reading is left",
        _GRANTS,
        "            flags &= ~_READING",
        "            pass",
    ),
    Planted(
        "GTF_writing is taken away with the first who wrote",
        _GRANTS,
        "        if writable and not pins[True]:",
        "        if writable:",
    ),
    Planted(
        "a mapping to read marks the entry as written",
        _GRANTS,
        "        flags |= _READING | _WRITING if writable else _READING",
        "        flags |= _READING | _WRITING",
    ),
    Planted(
        "a handle is given again at once",
        _GRANTS,
        "        self._handles.append(handle)",
        "        self._handles.appendleft(handle)",
    ),
    Planted(
        "bytes that overlap are copied as they were",
        _GRANTS,
        "    if source is not dest or not 0 < dest_start - start < length:",
        "    if True:",
    ),
    Planted(
        "a copy's domains are looked for one by one",
        _GNTTAB_OP,
        "    owner, dest_owner = _named(domain, source_domid), _named(domain, dest_domid)\n",
        "    owner = dest_owner = _named(domain, source_domid)\n",
    ),
    Planted(
        "any domain's frame is copied",
        _GNTTAB_OP,
        "        if self._domid != DOMID_SELF:",
        "        if False:",
    ),
    Planted(
        "a mapping is undone by any address",
        _GNTTAB_OP,
        "    if there is None or not there.page.is_(mapping.page):",
        "    if there is None:",
    ),
    Planted(
        "DOMID_SELF is whom a grant is mapped of",
        _GNTTAB_OP,
        "    owner = _table_of(domain, domid)\n    table",
        "    owner = _named(domain, domid)\n    table",
    ),
    Planted(
        "anybody's table is told of",
        _GNTTAB_OP,
        "    if table.domain is not domain and not domain.privileged:",
        "    if False:",
    ),
)
