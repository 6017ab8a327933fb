"""Numbers that are others every day, and how a failure of theirs is had again."""

from __future__ import annotations

import pytest

from support import drawn
from support.places import HOME, TESTS

pytest_plugins = ["pytester"]

FAILS = """
    import pytest
    from support.drawn import drawn

    @pytest.mark.parametrize(("number", "what"), drawn(2, "this"))
    def test_it(number, what):
        print(f"it was {number}")
        assert not what
"""


def numbers(many: int) -> list[object]:
    return [each.values[0] for each in drawn.drawn(many)]


def test_each_day_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    days = []
    for day in (739_000, 739_001, 739_000):
        monkeypatch.setattr(drawn, "DAY", day)
        days.append(numbers(5))
    one, next_one, again = days
    assert one == again
    assert not set(one) & set(next_one)


def test_they_are_long_and_come_with_what_else_a_test_takes() -> None:
    first, second = drawn.drawn(2, "this", int)
    assert (first.id, second.id) == ("drawn-0-this-int", "drawn-1-this-int")
    assert first.values[1:] == ("this", int)
    assert {mark.name for mark in first.marks} == {"long", "drawn"}


def test_by_turns_each_has_one_within_so_many_days(monkeypatch: pytest.MonkeyPatch) -> None:
    every: list[object] = []
    for day in range(739_000, 739_004):
        monkeypatch.setattr(drawn, "DAY", day)
        for each in drawn.by_turns(4, range(10)):
            every += each.values
            assert {mark.name for mark in each.marks} == {"long", "drawn"}
    assert sorted(every) == list(range(10))


def test_a_failure_says_how_the_same_numbers_are_had_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(drawn.VARIABLE, "7")
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyprojecttoml((HOME / "pyproject.toml").read_text())
    pytester.makepyfile(test_day=FAILS)
    said = str(pytester.runpytest_subprocess("-m", "long", "test_day.py").stdout)
    monkeypatch.setattr(drawn, "DAY", 7)
    for nth, number in enumerate(numbers(2)):
        assert f"it was {number}\n" in said
        again = f"tests/run -m long 'test_day.py::test_it[drawn-{nth}-this]'"
        assert f"{drawn.VARIABLE}=7 {again}" in said
