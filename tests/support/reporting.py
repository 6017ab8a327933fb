"""What a run of pytest tells side_by_side.py of its tests, as they come: a message a line.

{"tests": [ID...]}                         those that will run
{"test": ID, "outcome": "failed", "seconds": 0.2, "text": ...}
                                           one has: set up, called and torn down
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from support.needs import LEFT_OUT

WORST_LAST = ("passed", "skipped", "failed")
"""A test that passes and cannot be torn down has failed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report-to", type=int, metavar="FD", help="for side_by_side.py")


def pytest_configure(config: pytest.Config) -> None:
    descriptor = config.getoption("--report-to")
    if descriptor is not None:
        config.pluginmanager.register(Reporting(descriptor))


class Reporting:
    """The plugin. `descriptor` is open for writing."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")
        self._now: dict[str, Any] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported has failed, and one that needs something is left out."""
        if not report.passed:
            self._begin(report.nodeid)
            self._add(report)
            self._tell(self._now)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._tell({"tests": [item.nodeid for item in session.items]})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begin(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._now["seconds"] += report.duration
        self._add(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell(self._now)

    def _begin(self, test: str) -> None:
        self._now = {"test": test, "outcome": "passed", "seconds": 0.0, "text": ""}

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self._now["outcome"] = max(self._now["outcome"], report.outcome, key=WORST_LAST.index)
        if report.failed:
            parts = [
                report.longreprtext,
                *(f"--- {name} ---\n{text}" for name, text in said(report)),
            ]
            self._now["text"] += "\n".join(parts)
        elif report.skipped and isinstance(report.longrepr, tuple):
            self._now["text"] = report.longrepr[2].partition(LEFT_OUT)[2]

    def _tell(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def said(report: pytest.TestReport | pytest.CollectReport) -> list[tuple[str, str]]:
    """What the test wrote and logged, where it did."""
    return [(name, text) for name, text in report.sections if text.strip()]
