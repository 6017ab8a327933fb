"""What is another every day: of a long sweep each day's runs take another part, by chance if it has
no end, and by turns if it has one.

A failure says with which number of the day it is had again: `ACTIVATIONS_SEED=739948`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
VARIABLE = "ACTIVATIONS_SEED"
DAY = int(os.environ.get(VARIABLE) or datetime.now(UTC).date().toordinal())
MOST = 1_000_000
MARKS = [pytest.mark.long, pytest.mark.drawn]
"""They are long: what always runs is the same each time, so that who has changed something meets no
fault but of that change."""


def drawn(many: int, *values: Any) -> list[Any]:
    """So many parameters: each is a number below a million, and these values."""
    return [
        pytest.param(
            number, *values, id="-".join(("drawn", str(nth), *map(_named, values))), marks=MARKS
        )
        for nth, number in enumerate(Random(DAY).sample(range(1, MOST), many))
    ]


def turn(days: int, values: Sequence[T]) -> Sequence[T]:
    """Those whose turn it is today: within so many days each has had one."""
    return values[DAY % days :: days]


def by_turns(days: int, values: Sequence[Any]) -> list[Any]:
    """These as parameters."""
    return [pytest.param(value, marks=MARKS) for value in turn(days, values)]


def _named(value: Any) -> str:
    return str(getattr(value, "__name__", value))


def again(test: str) -> str:
    """The command that has the same numbers for it."""
    return f"{VARIABLE}={DAY} tests/run -m long '{test}'"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """How a failure is had again, among what it has written."""
    if report.failed and "drawn" in report.keywords:
        report.sections.append(("to have it again", again(report.nodeid)))
