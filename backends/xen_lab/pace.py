"""How fast this lab is: on a machine that has other work it takes all its time longer.

Two figures. The pace is what an application goes by: how many times longer a known piece of work
took here, the boot and each guest's, than it takes on an idle machine. The other serves where no
work is done yet by which to know: how long the host let the emulator wait for a processor.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

BOOT = 7.0
"""Seconds from QEMU's start to a dom0 that answers, on an idle machine of two cores."""
GUEST = {"pvh": 9.0, "pv": 7.5}
"""Seconds from `xl create` to a guest that answers, there too, by the guest's kind."""
VARIABLE = "XEN_LAB_PACE"
"""Where what runs in the lab's domains finds the pace, in its environment."""


class Pace:
    """`factor` is how many times slower the lab is than on an idle machine, as it was last
    measured; never below 1."""

    def __init__(self) -> None:
        self.factor: float = 1.0

    def measured(self, seconds: float, idle: float) -> None:
        """A piece of work took so long, which takes `idle` seconds on an idle machine."""
        self.factor = max(1.0, seconds / idle)

    def patience(self, seconds: float) -> float:
        """How long to wait here for what takes `seconds` on an idle machine."""
        return seconds * self.factor

    def within(self, seconds: float) -> str:
        """That limit in words, for an error."""
        pace = f" at pace {self.factor:.1f}" if self.factor >= 1.05 else ""
        return f"within {seconds:.0f} s{pace}"

    @property
    def environment(self) -> dict[str, str]:
        """What tells a program in the lab."""
        return {VARIABLE: f"{self.factor:.2f}"}


def granted(pid: int) -> float:
    """Seconds of a monotonic clock that stands still while the host has no processor for the
    thread of this process that waits most (the second figure in `/proc/PID/task/*/schedstat`;
    where Linux keeps none, the clock never stands still)."""
    waited = [0]
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # it ended just now
            waited.append(int(thread.read_text().split()[1]))
    return time.monotonic() - max(waited) * 1e-9
