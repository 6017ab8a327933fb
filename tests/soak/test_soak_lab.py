"""The kills on a real Xen, in their short form."""

from __future__ import annotations

import pytest
from support.parameters import one_in

from xen_lab import Lab

from . import on_lab

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("kind", one_in(3, on_lab.KINDS))
def test_a_program_at_either_end_may_be_killed(lab: Lab, kind: str) -> None:
    assert on_lab.kill(lab, kind, kills=1, seed=2).kills == 1
