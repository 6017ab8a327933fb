"""What every engine of the explorer speaks: courses, tokens, tables, verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import whole

from xen_sim import Choice, Diverged
from xen_sim.explore.course import Following, checks, course
from xen_sim.explore.finding import LOST_WAKEUP, Finding
from xen_sim.explore.report import DEVIATION, WRONG, Moment, rows, table, with_wrong
from xen_sim.explore.token import Token, TokenError, identify, parse, parse_for
from xen_sim.explore.verdict import BOUNDED, EXHAUSTED, FOUND, OPEN, Figures, Found, Verdict

QUESTIONS = [(f"guest: step {number}", ("guest", "dom0")) for number in range(50)]
CHOICES = [Choice(*question) for question in QUESTIONS]


def token(*deviations: tuple[int, int], identity: str = "a program") -> Token:
    way = course(*deviations)
    return Token(identify(identity), 0, way, checks(way, QUESTIONS))


def test_a_course_is_taken_and_everything_else_goes_the_ordinary_way() -> None:
    tape = Following(course((3, 1), (40, 1)))
    assert [n for n, choice in enumerate(CHOICES) if tape.choose(choice)] == [3, 40]


def test_a_course_that_asks_for_an_option_there_is_not_diverges() -> None:
    with pytest.raises(Diverged, match="choice 0 has no option 2 any more"):
        Following(course((0, 2))).choose(CHOICES[0])


gaps = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 300)), max_size=6)


@given(gaps, st.integers(0, 2**40))
def test_a_token_says_the_course_it_was_made_of(found: list[tuple[int, int]], seed: int) -> None:
    at, deviations = -1, []
    for gap, answer in found:
        at += gap + 1
        deviations.append((at, answer))
    way = course(*deviations)
    made = Token(identify("it"), seed, way, (7,) * len(way))
    assert parse(str(made)) == made


@given(st.data())
def test_a_token_that_is_cut_short_or_mistyped_is_one_clear_error(data: st.DataObject) -> None:
    text = str(token((3, 1), (40, 1)))
    cut = data.draw(st.integers(len("x1-"), len(text) - 1))
    with pytest.raises(TokenError, match="cut short or mistyped: copy all of it"):
        parse(text[:cut])


@pytest.mark.parametrize(
    "body",
    [
        b"abc\1\2",
        b"abc\1\2\3",
        b"abc\x81",
        b"abc" + b"\xff" * 9 + b"\x7f",
        b"abc\1" + b"\xff" * 40,
    ],
)
def test_a_token_whose_checks_are_right_and_that_says_nonsense_is_one_clear_error(
    body: bytes,
) -> None:
    with pytest.raises(TokenError, match="is whole, but holds no course"):
        parse(whole.token(body))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a token: one begins with 'x1-'"),
        ("banana", "is not a token"),
        ("x1", "is not a token"),
        ("x9-aaaaaaaa", "is of version x9, and this is x1: replay it with the version that gave"),
        ("x1-!!", "cut short or mistyped"),
        ("x1-é", "cut short or mistyped"),
    ],
)
def test_what_is_no_token_is_one_clear_error(text: str, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        parse(text)


def test_a_token_of_another_program_is_one_clear_error() -> None:
    text = str(token((3, 1)))
    assert parse_for(text, "a program", "it.py").course == course((3, 1))
    with pytest.raises(TokenError, match=r"found in another program than other\.py"):
        parse_for(text, "another program", "other.py")


def test_a_token_is_short() -> None:
    assert len(str(token((3, 1), (40, 1)))) <= 24


def test_a_token_stops_where_the_program_asks_otherwise() -> None:
    fits = token((3, 1), (40, 1)).tape()
    for choice in CHOICES:
        fits.choose(choice)
    assert not fits.rest
    changed = token((3, 1), (40, 1)).tape()
    with pytest.raises(Diverged, match=r"at choice 40.* it is 'guest: step 40' \(guest, dom0\)"):
        for number, choice in enumerate(CHOICES):
            changed.choose(choice._replace(point="guest: cli") if number == 20 else choice)


MOMENTS = [
    *[Moment("guest", f"step {n}") for n in range(10)],
    Moment("guest", "hlt", DEVIATION),
    *[Moment("dom0", f"send {n}") for n in range(3)],
    Moment("guest", "sleeps"),
]


def test_the_table_has_a_column_for_each_vcpu_and_the_length_of_what_matters() -> None:
    assert table(with_wrong(MOMENTS, "guest", "lost"), ["dom0", "guest"]).splitlines() == [
        "   dom0   │ guest",
        "──────────┼─────────",
        "          │ step 0",
        "          │ step 1",
        "          │ ⋮ 6 more",
        "          │ step 8",
        "          │ step 9",
        " ↷        │ hlt",
        "   send 0 │",
        "   send 1 │",
        "   send 2 │",
        "          │ sleeps",
        " ✗        │ lost",
    ]


def test_what_is_marked_is_never_folded() -> None:
    stretch = [Moment("guest", str(n), WRONG if n == 5 else "") for n in range(12)]
    assert "5" in [row.text for row in rows(stretch)]


def test_what_came_long_before_the_first_deviation_is_left_out() -> None:
    turns = [Moment(who, f"turn {n}") for n in range(20) for who in ("dom0", "guest")]
    shown = rows([*turns, Moment("dom0", "hlt", DEVIATION), Moment("guest", "sleeps")])
    assert [row.text for row in shown[:2]] == ["⋮ 36 steps", "turn 18"]
    assert [row.text for row in shown[-2:]] == ["hlt", "sleeps"]


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict("it", EXHAUSTED, Figures(9, 0.1)), "it: exhausted (9 runs, 0.10 s"),
        (Verdict("it", BOUNDED, Figures(), bound=3), "it: exhausted at 3 preemptions ("),
        (Verdict("it", OPEN, Figures()), "it: not exhausted ("),
        (Verdict("it", OPEN, Figures(), bound=1), "not exhausted; exhausted at 1 preemption, and"),
        (
            Verdict("it", FOUND, Figures(), [Found(Finding(LOST_WAKEUP, "port 2"), "x1-", ())]),
            "it: found lost wake-up: port 2 (",
        ),
    ],
)
def test_a_verdict_says_what_it_rests_on(verdict: Verdict, said: str) -> None:
    assert said in str(verdict)
    assert bool(verdict) == (verdict.kind != FOUND)
    assert verdict.leaves_out
