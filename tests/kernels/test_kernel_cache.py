"""The cache of what is compiled: damaged, read-only, of many at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from errno import EROFS
from pathlib import Path
from typing import NoReturn

import pytest
from support.lower_halves import need_gcc
from support.pace import patience

from xen_kernel import KERNELS, KernelError, Scenario, build, decide
from xen_sim.explore.verdict import EXHAUSTED

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

SCENARIO = Scenario((KERNELS / "zephyr.c",), sends=1)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [nothing, half, flipped, Path.unlink])
def test_what_is_damaged_in_it_is_made_anew(damage: Callable[[Path], None]) -> None:
    made = build.program(SCENARIO)
    whole = made.read_bytes()
    damage(made)
    for each in build.folder().glob("zephyr-*.o"):
        if each.stat().st_size:  # or it is another's, and damaged already
            damage(each)
    assert decide(SCENARIO).kind == EXHAUSTED
    assert made.read_bytes() == whole


def test_one_that_can_only_be_read_serves_and_what_is_not_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build.program(SCENARIO)

    def refuses(*_: object, **how: object) -> NoReturn:
        raise OSError(EROFS, os.strerror(EROFS))

    monkeypatch.setattr(build.os, "utime", refuses)
    monkeypatch.setattr(build, "TemporaryDirectory", refuses)
    assert decide(SCENARIO).kind == EXHAUSTED
    with pytest.raises(KernelError, match=r"Read-only file system.*set XDG_CACHE_HOME"):
        decide(Scenario(SCENARIO.kernel, sends=1, defines=("NEW",)))


def test_a_program_that_may_not_be_run_there_is_one_clear_error() -> None:
    made = build.program(SCENARIO)
    made.chmod(0o600)
    try:
        with pytest.raises(KernelError, match="set XDG_CACHE_HOME to a folder of yours"):
            decide(SCENARIO)
    finally:
        made.unlink()


@pytest.mark.long
def test_thirty_may_fill_it_at_once_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nobody else is making anything there
    build.program(SCENARIO)
    words = ("--kernel", "zephyr", "--sends", "1", "--delivery", "vector")
    command = [sys.executable, "-m", "activations", "explore", *words, "--define", "AT_ONCE"]
    for each in build.folder().glob("zephyr-*"):
        each.unlink()
    thirty = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(30)]
    said = [each.communicate(timeout=patience(120))[1] for each in thirty]
    assert [each.returncode for each in thirty] == [0] * 30, said
    assert not list(build.folder().glob("making-*"))
