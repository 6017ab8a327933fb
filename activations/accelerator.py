"""The optional accelerator: some steps of the loop and of the simulator in C, where a compiler was
found as the package was installed. `ACTIVATIONS_PURE=1` in the environment does without.

Everything is complete without it, and nothing behaves otherwise with it (docs/accelerator.md).
"""

from __future__ import annotations

import os
import sysconfig
import warnings
from binascii import crc32
from importlib import import_module
from pathlib import Path
from typing import Any

PURE = "ACTIVATIONS_PURE"
"""The variable in the environment: anything but 0 chooses what is in Python alone."""

_FREE_THREADED = "it is written for one thread at a time, and this Python is free-threaded"
_OUT_OF_DATE = "out of date, since it was built from another _accelerator.c"


def _load() -> tuple[Any, str]:
    """The module in C, or None and why."""
    if os.environ.get(PURE, "0") not in ("", "0"):
        return None, f"{PURE} is set"
    try:
        found = import_module("activations._accelerator")
    except ImportError as error:
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            return None, _FREE_THREADED
        return None, f"{error}: pip install again, with gcc and python3-dev"
    except (AttributeError, TypeError) as error:
        return None, f"not for this Python's asyncio: {error}"
    if _is_out_of_date(found):
        warnings.warn(
            f"the accelerator is {_OUT_OF_DATE}, and is left out: pip install again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, f"{_OUT_OF_DATE}: pip install again"
    return found, ""


def _is_out_of_date(found: Any) -> bool:
    """Whether it was built from something else than the source beside it; where there is none, it
    came ready-made, with these very files."""
    try:
        source = Path(__file__).with_name("_accelerator.c").read_bytes()
    except OSError:
        return False
    built_from: object = getattr(found, "SOURCE", None)
    return built_from != f"{crc32(source):08x}"


accelerator: Any
missing: str
accelerator, missing = _load()
