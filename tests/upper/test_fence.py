"""The fence between a store and a load."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from activations import fence


def test_a_fence_in_python_that_was_broken_off_is_whole_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception out of a signal handler strikes between the taking of its lock and the giving
    back."""
    made: list[Any] = []

    def lock() -> Any:
        made.append(threading.Lock())
        return made[-1]

    monkeypatch.setattr(fence, "accelerator", None)
    monkeypatch.setattr(fence, "Lock", lock)
    cross = fence.new_fence()
    made[0].acquire()
    cross()
    assert not made[0].locked()
    cross()
    assert not made[0].locked()
