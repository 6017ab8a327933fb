"""Chance and time as an explored program gets them: the same in every run.

Three streams are apart: the schedule's is the tape's, the faults' are their own, and the
application's is this one. `random`, `os.urandom`, `secrets` and `uuid` are seeded anew for each
run; `time` tells the time of the simulation; `time.sleep` is refused, since it would stop every
domain. What a module took before by `from time import time` goes by this: a program that needs it
is found out by running the program twice.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn

from activations.errors import VirtualClockError

EPOCH_NS = 1_592_179_200 * 10**9
"""What `time.time()` begins with: the 15th of June 2020."""


def stream(name: str, seed: int) -> Random:
    """A stream of chance of its own: what is taken from it moves no other."""
    return Random(f"{name} {seed}")


def _refused(seconds: float) -> NoReturn:
    raise VirtualClockError(
        "time.sleep() would stop every domain of the simulation: await asyncio.sleep()"
    )


def _uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    uuid._last_timestamp = None  # type: ignore[attr-defined]
    return _real_uuid1(0x020000000001 if node is None else node, clock_seq or 0)


_real_uuid1 = uuid.uuid1


@contextmanager
def kept() -> Iterator[None]:
    """Put the module-level generator of `random` back as it was, behind this block."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def seeded(seed: int, now: Callable[[], int]) -> Iterator[None]:
    """Inside the block, chance is that of this seed, and time is `now`'s (ns)."""
    random.seed(seed)
    urandom = stream("os.urandom", seed).randbytes

    def wall_ns() -> int:
        return EPOCH_NS + now()

    def seconds() -> float:
        return now() / 1e9

    replaced: list[tuple[Any, str, Any]] = [
        (os, "urandom", urandom),
        (random, "_urandom", urandom),
        (uuid, "uuid1", _uuid1),
        (time, "time", lambda: wall_ns() / 1e9),
        (time, "time_ns", wall_ns),
        (time, "sleep", _refused),
        *((time, name, seconds) for name in ("monotonic", "perf_counter", "process_time")),
        *((time, f"{name}_ns", now) for name in ("monotonic", "perf_counter", "process_time")),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
