"""What may be said of a run, by name."""

from __future__ import annotations

from functools import partial
from typing import get_type_hints

import pytest

import activations
from activations import BackendError, Domain, Scenario
from activations.outcome import RunKeywords, RunOptions


def test_a_scenario_takes_as_keywords_what_run_options_has() -> None:
    assert get_type_hints(RunKeywords) == get_type_hints(RunOptions)
    assert not RunKeywords.__required_keys__
    assert set(RunOptions._fields) == RunKeywords.__optional_keys__


one = Scenario("one")
one.domain("dom0")(print)


@pytest.mark.parametrize("run", [partial(activations.run, print), one.run])
def test_a_keyword_that_there_is_not_is_a_type_error(run: object) -> None:
    with pytest.raises(TypeError, match="colour"):
        run(colour="red")  # type: ignore[operator]


def test_a_loop_takes_a_clock_and_a_seed() -> None:
    async def main(xen: Domain) -> str:
        return xen.clock

    assert activations.run(main) == "virtual"
    assert activations.run(main, seed=3) == "virtual"
    assert activations.run(main, clock="wall") == "wall"


def test_a_backend_without_loops_says_so_whatever_is_asked_for() -> None:
    with pytest.raises(BackendError, match="has no loop for this process"):
        activations.run(print, backend="lab", clock="wall")
