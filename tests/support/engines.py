"""The processes that search a kernel's C, as who looks at them from outside finds them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from support.pace import patience


def engines_in(group: int) -> list[int]:
    """Those of a process group, whoever has started them."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if os.getpgid(int(each.name)) == group and _searches(int(each.name)):
                found.append(int(each.name))
    return found


def engines_of(parent: int) -> list[int]:
    """Those that this process has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in children if _searches(int(each))]


def wait_for_engines(group: int, many: int) -> list[int]:
    """Once there are so many in a process group."""
    until = time.monotonic() + patience(30)
    while len(there := engines_in(group)) != many:
        assert time.monotonic() < until, f"there are {there}"
        time.sleep(0.02)
    return there


def _searches(process: int) -> bool:
    with suppress(OSError):  # it has just ended
        return "\0search\0" in Path(f"/proc/{process}/cmdline").read_text()
    return False
