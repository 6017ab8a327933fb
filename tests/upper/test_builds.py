"""The loop, its ports and the machine below in both builds: a run of the tests has one of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.places import HOME, TESTS

from activations.accelerator import PURE, accelerator

SOME = ["timers", "processor", "loops_together", "fused", "order", "event_channel", "freed"]
MORE = ["struck", "simulation", "loop_wall", "vchan_end", "unusual_ends", "leak_guard"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [SOME, pytest.param(MORE, marks=pytest.mark.long)])
def test_the_loop_the_ports_and_the_machine_are_whole_in_the_other_build(names: list[str]) -> None:
    """In Python alone; where this run is, as one of `tests/run --pythons`, with the accelerator,
    whose own tests belong to them then."""
    pure = accelerator is not None
    files = [str(next(TESTS.rglob(f"test_{name}.py"))) for name in names]
    if not pure:
        files.append(str(TESTS / "upper" / "test_accelerator.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not lab", *files],
        env=os.environ | {PURE: str(int(pure))},
        cwd=HOME,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
