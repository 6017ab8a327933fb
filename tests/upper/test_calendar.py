"""The calendar of what happens when, held against a list that is searched."""

from __future__ import annotations

from random import Random

import pytest

from xen_sim.schedule.clock import Calendar, Entry
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape


class Last(Tape):
    """Always takes the last option, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Choice] = []

    def choose(self, choice: Choice) -> int:
        self.asked.append(choice)
        return len(choice.options) - 1


@pytest.mark.parametrize("seed", range(20))
def test_what_is_entered_happens_in_order_unless_it_is_struck_out(seed: int) -> None:
    random = Random(seed)
    calendar, happened = Calendar(), []
    waiting: list[Entry] = []
    now = 0
    for _ in range(500):
        match random.choice(["add", "add", "remove", "run"]):
            case "add":
                number = len(happened) * 1000 + random.randrange(1000)
                when = now + random.randrange(30)
                waiting.append(calendar.add(when, lambda n=number: happened.append(n)))  # type: ignore[misc]
            case "remove" if waiting:
                calendar.remove(waiting.pop(random.randrange(len(waiting))))
            case "run":
                now += random.randrange(10)
                due = sorted(entry[:2] for entry in waiting if entry[0] <= now)
                wanted = [entry for made in due for entry in waiting if entry[:2] == made]
                waiting = [entry for entry in waiting if entry[0] > now]
                before = len(happened)
                calendar.run_due(now)
                expected: list[int] = []
                for entry in wanted:
                    entry[2]()
                    expected.append(happened.pop())
                assert happened[before:] == expected
        assert calendar.next_time() == min((entry[0] for entry in waiting), default=None)


def test_who_happened_may_be_struck_out_and_nothing_comes_of_it() -> None:
    calendar, happened = Calendar(), []
    first = calendar.add(1, lambda: happened.append(1))
    calendar.add(1, lambda: calendar.remove(second))
    second = calendar.add(1, lambda: happened.append(2))
    calendar.run_due(1)
    calendar.remove(first)
    assert happened == [1]
    assert calendar.next_time() is None


def test_a_tape_is_asked_where_several_happen_at_one_instant_and_only_there() -> None:
    tape = Last()
    calendar, happened = Calendar(tape), []
    for when, name in ((5, "a"), (7, "b"), (5, "c"), (6, "d"), (5, "e")):
        entry = calendar.add(when, lambda name=name: happened.append(name), name)  # type: ignore[misc]
        if name == "c":
            calendar.remove(entry)
    calendar.run_due(7)
    assert happened == ["e", "a", "d", "b"]
    assert tape.asked == [Choice("first at 5 ns", ("a", "e"))]


def test_what_is_broken_off_happens_again_though_it_was_done_with() -> None:
    calendar, happened = Calendar(), []

    def broken_off() -> None:
        happened.append("begun")
        calendar.next_time()
        if len(happened) == 1:
            raise KeyboardInterrupt

    calendar.add(1, broken_off)
    with pytest.raises(KeyboardInterrupt):
        calendar.run_due(1)
    assert calendar.next_time() == 1
    calendar.run_due(1)
    assert happened == ["begun", "begun"]
    assert calendar.next_time() is None


def test_a_timer_that_is_set_over_and_over_takes_no_memory() -> None:
    calendar = Calendar()
    for when in range(10_000):
        calendar.remove(calendar.add(10**9 + when, lambda: None))
    assert len(calendar.heap) < 200
