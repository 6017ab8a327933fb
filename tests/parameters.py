"""Parameters of tests: the scenarios of a file, and the part of a long list that always runs."""

from __future__ import annotations

from collections.abc import Iterable
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


def one_in(step: int, values: Iterable[Any]) -> list[Any]:
    """Every so many of them; the others are marked `long`."""
    return [
        value if number % step == 0 else pytest.param(value, marks=pytest.mark.long)
        for number, value in enumerate(values)
    ]
