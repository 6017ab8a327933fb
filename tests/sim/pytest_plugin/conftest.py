"""The project in which the plugin for pytest is tried."""

from __future__ import annotations

import pytest


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a configuration of its own, and no options from outside."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("""
[pytest]
addopts = --strict-markers
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:Unknown config option. asyncio:pytest.PytestConfigWarning
""")
    return pytester
