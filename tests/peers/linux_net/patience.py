"""How long a scenario waits for what should come: in the lab, as much longer as the lab is slower
than on an idle machine."""

from __future__ import annotations

import os

PACE = float(os.environ.get("XEN_LAB_PACE", "1"))


def patience(seconds: float) -> float:
    return seconds * PACE
