"""Scenarios of a file, as a test's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from activations import scenario

LONG = "long: "
"""How the names of those begin that are marked `long`."""


def scenarios_in(*files: Path) -> list[Any]:
    """Each as `FILE::NAME`, known by the file and the name."""
    return [
        pytest.param(
            f"{path}::{name}",
            id=f"{path.stem}::{name}",
            marks=[pytest.mark.long] if name.startswith(LONG) else [],
        )
        for path in files
        for name in scenario.names(path)
    ]
