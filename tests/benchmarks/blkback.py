"""Python's block back end beside Linux's own, for the same guest in the same boot.

Twice: on the wall clock, which is noisy but has two processors at work at once; and by instructions
executed, which is the same in every run but has them take turns.
"""

from __future__ import annotations

import functools
from pathlib import Path

from laboratory import Told
from measure import Figure

from activations import scenario
from xen_lab import Lab, Shape

RATES = Path(__file__).parent / "blkback_rates.py"


@functools.cache
def rates(counted: bool) -> dict[str, dict[str, float]]:
    """What tests/benchmarks/blkback_rates.py measures in a guest."""
    told = Told()
    with Lab(shape=Shape(counted=counted), progress=told.progress) as lab:
        outcome = lab.run(scenario.load(str(RATES)), told)
    if outcome.failures:
        raise SystemExit("\n".join(outcome.failures.values()))
    result: dict[str, dict[str, float]] = outcome.results["guest"]
    return result


def reads(kind: str, unit: str, *, counted: bool = False) -> list[Figure]:
    """Rates, as multiples of Linux's: the higher the better."""
    found = rates(counted)[kind]
    return [
        Figure("Linux, xen-blkback on a loop device", found["theirs"], unit, 1.0),
        Figure("Python, a file", found["ours"], unit, found["ratio"]),
    ]


BENCHMARKS = {
    "Disk reads of 1 MiB in order": lambda: reads("sequential", "MiB a second"),
    "Disk reads of 4 KiB at random": lambda: reads("scattered", "reads a second"),
    "Disk reads of 1 MiB in order, by instructions": lambda: reads(
        "sequential", "MiB in 500 million", counted=True
    ),
    "Disk reads of 4 KiB at random, by instructions": lambda: reads(
        "scattered", "reads in 500 million", counted=True
    ),
}
