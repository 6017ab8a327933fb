"""Hashes of strings, and with them the order of sets, are the same in every exploring process.

Python draws them anew for each process, unless PYTHONHASHSEED says otherwise as it begins. So a
program whose course depends on them would replay in one process and not in the next.
"""

from __future__ import annotations

import os
import sys

SEED = "PYTHONHASHSEED"
EXPLORING = {"explore", "replay"}


def fix() -> None:
    """Begin this process again with hashes that are not by chance, if it explores. A seed that
    somebody set is kept; an interpreter that looks at no environment is left as it is."""
    if EXPLORING.isdisjoint(sys.argv[1:2]) or sys.flags.ignore_environment:
        return
    if os.environ.get(SEED) in (None, "", "random"):
        again = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, again, {**os.environ, SEED: "0"})
