"""What runs always, what is long, and what runs on one Python alone."""

from __future__ import annotations

import pytest
from parameters import one_in, with_marks


def test_of_a_sweep_every_so_many_always_run_and_a_third_of_these_on_each_python() -> None:
    parameters = one_in(2, range(12))
    marks = [[mark.name for mark in each.marks] for each in parameters]
    assert [each.values for each in parameters] == [(number,) for number in range(12)]
    assert marks[1::2] == [["long"]] * 6
    assert marks[::2] == [[], ["once"], ["once"]] * 2


def test_a_parameter_keeps_its_name_and_its_marks() -> None:
    parameter = pytest.param(1, id="one", marks=pytest.mark.once)
    marked = with_marks(parameter, pytest.mark.long)
    assert (marked.values, marked.id) == ((1,), "one")
    assert [mark.name for mark in marked.marks] == ["once", "long"]
