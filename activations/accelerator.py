"""The optional accelerator: some steps of the loop and of the simulator in C, where a compiler was
found as the package was installed. `ACTIVATIONS_PURE=1` in the environment does without.

Everything is complete without it, and nothing behaves otherwise with it (docs/accelerator.md).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

PURE = "ACTIVATIONS_PURE"
"""The variable in the environment: anything but 0 chooses what is in Python alone."""


def _load() -> tuple[Any, str]:
    """The module in C, or None and why."""
    if os.environ.get(PURE, "0") not in ("", "0"):
        return None, f"{PURE} is set"
    try:
        return import_module("activations._accelerator"), ""
    except ImportError as error:
        return None, f"{error}: pip install again, with gcc and python3-dev"


accelerator: Any
missing: str
accelerator, missing = _load()
