"""Both builds of the package in one process: with the accelerator, and in Python alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from activations import accelerator as optional
from activations import loop
from support.needs import leave_out
from xen_sim.guests import asyncio_guest
from xen_sim.xen import hypercall, vcpu

USERS = (loop, asyncio_guest, hypercall, vcpu)
"""The modules that take what is in C where it is there."""


def needed_accelerator() -> Any:
    """The module in C; a test that needs it is left out where it was not built."""
    if optional.accelerator is None:
        if optional.missing == f"{optional.PURE} is set":
            pytest.skip(optional.missing)
        leave_out("tests of the accelerator", optional.missing)
    return optional.accelerator


@contextmanager
def in_python_alone() -> Iterator[None]:
    """What is made in here does without the accelerator, as `ACTIVATIONS_PURE=1` has it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in USERS:
            patch.setattr(module, "accelerator", None)
        yield
