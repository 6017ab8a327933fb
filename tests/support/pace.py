"""How fast this machine is. Where a test waits for the machine and not for what it tests, it has so
many times more patience."""

from __future__ import annotations

import time

IDLE = 0.17
"""Seconds for `work` on an idle machine, of which the others are multiples."""


def work() -> None:
    sum(number * number for number in range(5_000_000))


def measured() -> float:
    """How many times longer a piece of work takes than it might; 1 at least."""
    began = time.monotonic()
    work()
    return max(1.0, (time.monotonic() - began) / IDLE)


PACE = measured()


def patience(seconds: float) -> float:
    """How long to wait for what takes `seconds` at most on an idle machine."""
    return seconds * PACE
