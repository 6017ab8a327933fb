"""The kills on a real Xen, in their short form."""

from __future__ import annotations

import pytest
from support.drawn import by_turns
from support.parameters import one_in

from xen_lab import Lab

from . import on_lab

pytestmark = pytest.mark.lab

PROGRAMS = [name for name, kind in on_lab.KINDS.items() if not kind.destroyed]
DOMAINS = [name for name, kind in on_lab.KINDS.items() if kind.destroyed]


@pytest.mark.parametrize("kind", one_in(6, PROGRAMS))
def test_a_program_at_either_end_may_be_killed(lab: Lab, kind: str) -> None:
    assert on_lab.kill(lab, kind, kills=1, seed=2).kills == 1


@pytest.mark.parametrize("kind", by_turns(2, DOMAINS))
def test_a_domain_at_either_end_may_be_destroyed(lab: Lab, kind: str) -> None:
    assert on_lab.kill(lab, kind, kills=1, seed=2).kills == 1
