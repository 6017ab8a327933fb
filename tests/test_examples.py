"""Every example runs, to the same results, on the simulator and on a real Xen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from activations.cli.demo_scenario import ROUNDS

from activations import scenario
from activations.cli.demo import CHAPTERS
from activations.cli.demo import SCENARIO as DEMO

FOLDER = Path(__file__).parent.parent / "examples"

RESULTS: dict[str, dict[str, Any]] = {
    "echo_guest": {"dom0": ["00:16:3e:00:00:01", "0000edcb00001234", "hello"], "guest": 3},
    "fan_in": {"dom0": {"red": 3, "green": 3, "blue": 3}, "red": 3, "green": 3, "blue": 3},
    "lost_wakeup": {"dom0": 1, "guest": None},
    "packet_logger": {"dom0": 226, "guest": ["one", "two", "three"]},
    "pingpong": {"dom0": 10, "guest": 10},
    "shared_page": {"dom0": "42", "guest": "what is the answer?"},
    "ticker": {"dom0": None, "guest": 5},
    "vchan_echo": {"dom0": 17, "guest": "HELLO FROM THE GUEST"},
}
"""What each example's halves return, anywhere."""

SERVERS = {"nbd_server"}
"""Those that run until somebody ends them: tests/test_nbd_server.py."""

Run = Callable[[Path], dict[str, Any]]


@pytest.fixture(params=["sim", pytest.param("lab", marks=pytest.mark.lab)])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a file's scenario on this backend; on the lab that is booted, where it is the lab."""
    if request.param == "lab":
        request.getfixturevalue("lab")
    return lambda path: scenario.load(str(path)).run(request.param)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(RESULTS) | SERVERS


@pytest.mark.parametrize("name", RESULTS)
def test_an_example_gives_the_same_results_everywhere(name: str, run: Run) -> None:
    """Twice: nothing may be left in xenstore that the next run would take for its own."""
    for _ in range(2):
        assert run(FOLDER / f"{name}.py") == RESULTS[name]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("seed", range(50))
def test_an_example_gives_the_same_results_on_every_schedule(name: str, seed: int) -> None:
    assert scenario.load(str(FOLDER / f"{name}.py")).run("sim", seed=seed) == RESULTS[name]


def test_the_demo_loses_nothing(run: Run) -> None:
    """However few notifies arrive as events of their own, every wait is ended; and where each is
    waited for before the next is sent, each is delivered."""
    results = run(DEMO)
    dom0, guest = results["dom0"], results["guest"]
    assert 1 + 1 + 1 + 1 + 1 + ROUNDS + 1 <= dom0["fired"] <= guest["sent"]
    assert guest["fired"] == 1 + dom0["sent"], "Xen's own event at the bind, and dom0's"
    told = {moment["chapter"] for diary in (dom0, guest) for moment in diary["moments"]}
    assert told == set(CHAPTERS)


def test_the_demo_tells_its_story_on_every_schedule() -> None:
    for seed in range(50):
        scenario.load(str(DEMO)).run("sim", seed=seed)


def test_the_demo_tells_the_same_on_the_simulator_every_time() -> None:
    """Apart from the numbers that keep its moments in order within one process."""
    first, second = (scenario.load(str(DEMO)).run("sim") for _ in range(2))
    assert first == second
