"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import xen_lab


@pytest.fixture(scope="session")
def lab() -> Iterator[xen_lab.Lab]:
    """A real Xen, booted once for all tests marked `lab`; scenarios run on it too."""
    unmet = [check for check in xen_lab.backend.doctor() if not check.ok]
    if unmet:
        pytest.skip(f"no lab here: {unmet[0].what}: {unmet[0].mend}")
    with xen_lab.Lab() as booted, xen_lab.backend.using(booted):
        yield booted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test on the lab waits for its boot, and guests are made when first needed."""
    for item in items:
        if item.get_closest_marker("lab") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))
