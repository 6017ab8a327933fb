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


def some_in(step: int, *files: Path) -> list[Any]:
    """As `scenarios_in`, but of each file every so many always run; the others are `long`."""
    return [
        pytest.param(*each.values, id=each.id, marks=[*each.marks, pytest.mark.long])
        if number % step
        else each
        for file in files
        for number, each in enumerate(scenarios_in(file))
    ]


EACH_PYTHON = 3


def one_in(step: int, values: Iterable[Any]) -> list[Any]:
    """Every so many of them always run; the others are marked `long`. Of those that always run
    every third does so on each Python and the rest on one, marked `once`: another moment, or
    another seed, says something of our code and no more of a Python."""

    def marks(number: int) -> list[Any]:
        if number % step:
            return [pytest.mark.long]
        return [pytest.mark.once] if number // step % EACH_PYTHON else []

    return [pytest.param(value, marks=marks(number)) for number, value in enumerate(values)]
