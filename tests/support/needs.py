"""What some tests need of the machine.

Where it is missing they are left out, and the run's last lines say so; where nothing may be left
out, as in CI, they fail (ACTIVATIONS_TESTS=all).
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

LEFT_OUT = "left out: "


def leave_out(what: str, mend: str) -> NoReturn:
    """Skip a test, a fixture's tests or a whole module for want of something; say how to get it."""
    said = f"{LEFT_OUT}{what} ({mend})"
    if os.environ.get("ACTIVATIONS_TESTS") == "all":
        pytest.fail(said, pytrace=False)
    pytest.skip(said, allow_module_level=True)


def need_compiler(what: str, name: str = "cc") -> None:
    """A C compiler, by the name that `what` calls it by."""
    if shutil.which(name) is None:
        leave_out(what, "needs a C compiler: apt-get install gcc libc6-dev")
