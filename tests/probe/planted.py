"""Faults for a copy of the simulator, in what xen_oracle cannot see: processors, timers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
        "self._apic.acknowledge  # type: ignore[method-assign]\n        self.announce()\n",
        "self._apic.acknowledge  # type: ignore[method-assign]\n",
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


def is_seen(package: Path, fault: Planted, folder: Path, recordings: Sequence[Path]) -> bool:
    """Whether a fault in a copy of `package` differs from what a real Xen has said."""
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.name}: {fault.file} has not once: {fault.old!r}"
    (copy / fault.file).write_text(text.replace(fault.old, fault.new))
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "probe", "--recorded", *map(str, recordings)],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), tests])},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "compared" in done.stdout, done.stderr
    return done.returncode == 1
