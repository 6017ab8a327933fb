"""What runs always, what is long, and what runs on one Python alone."""

from __future__ import annotations

from support.parameters import one_in, scenarios_in, some_in
from support.places import RULES


def test_of_a_sweep_every_so_many_always_run_and_a_third_of_these_on_each_python() -> None:
    parameters = one_in(2, range(12))
    marks = [[mark.name for mark in each.marks] for each in parameters]
    assert [each.values for each in parameters] == [(number,) for number in range(12)]
    assert marks[1::2] == [["long"]] * 6
    assert marks[::2] == [[], ["once"], ["once"]] * 2


def test_some_of_each_file_always_run_and_none_is_left_out() -> None:
    files = [RULES / "vchan.py", RULES / "net.py"]
    every, some = scenarios_in(*files), some_in(2, *files)
    assert [each.id for each in some] == [each.id for each in every]
    for file in files:
        first, second, *_ = [each for each in some if each.id.startswith(f"{file.stem}::")]
        assert not first.marks
        assert [mark.name for mark in second.marks] == ["long"]
