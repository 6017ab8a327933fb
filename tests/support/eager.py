"""Eager tasks, forced on every loop: `pytest --eager`, from Python 3.12 on.

An eager task runs at once up to where it first waits, within `create_task`, and may have ended by
the time that returns. A program may ask for that (`loop.set_task_factory`), and everything holds.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--eager", action="store_true", help="eager tasks on every loop")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--eager"):
        everywhere()


def everywhere() -> None:
    """From now on in this process. What tests start as processes of their own is left alone."""
    if sys.version_info < (3, 12):
        raise pytest.UsageError("--eager: eager tasks came with Python 3.12")
    init = base_events.BaseEventLoop.__init__

    def make(loop: asyncio.BaseEventLoop, *args: Any, **kwargs: Any) -> None:
        init(loop, *args, **kwargs)
        loop.set_task_factory(asyncio.eager_task_factory)

    base_events.BaseEventLoop.__init__ = make  # type: ignore[method-assign]
