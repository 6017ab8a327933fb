"""Keeps the verdicts of CPython's tests, for the test that compares them."""

from __future__ import annotations

from collections import defaultdict

import pytest

Verdicts = dict[str, dict[str, str]]
"""`stock` and `ours`, each with a verdict (passed, failed, skipped) by the test's name."""

_verdicts: Verdicts = defaultdict(dict)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _file, *classes, test = report.nodeid.split("::")
    if classes:
        subject, _, whose = classes[0].rpartition("_")
        if report.when == "call" or report.outcome != "passed":
            _verdicts[whose][f"{subject}::{test}"] = report.outcome


@pytest.fixture
def verdicts() -> Verdicts:
    return _verdicts


@pytest.fixture
def leaves_no_tasks() -> None:
    """Two of CPython's tests close a loop in mid-task, to see what happens."""
