"""Every example runs, to the same results, on the simulator and on a real Xen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.drawn import drawn
from support.parameters import one_in
from support.places import EXAMPLES

from activations import scenario

FILES = {
    path.stem: path for folder in (EXAMPLES, EXAMPLES / "programs") for path in folder.glob("*.py")
}
SCREEN_AND_A_HALF = 80
"""Lines."""

RESULTS: dict[str, dict[str, Any]] = {
    "echo_guest": {"dom0": ["00:16:3e:00:00:01", "howdy", "hello"], "guest": 3},
    "fan_in": {"dom0": {"red": 3, "green": 3, "blue": 3}, "red": 3, "green": 3, "blue": 3},
    "function_disk": {"dom0": 3, "guest": f"    {'#' * 48}=-::......."},
    "http_disk": {"dom0": 176, "guest": "Read from a disk, which got it from the web."},
    "lost_wakeup": {"dom0": 1, "guest": None},
    "packet_logger": {"dom0": 6, "guest": ["one", "two", "three"]},
    "pingpong": {"dom0": 10, "guest": 10},
    "shared_page": {"dom0": "42", "guest": "what is the answer?"},
    "ticker": {"dom0": None, "guest": 5},
    "vchan_echo": {"dom0": 17, "guest": "HELLO FROM THE GUEST"},
}
"""What each example's halves return, anywhere."""

SERVERS = {"nbd_server"}
"""Those that run until somebody ends them: tests/programs/test_nbd_server.py."""

ON_THE_LAB = [
    pytest.param(each.values[0], "lab", marks=[pytest.mark.lab, *each.marks])
    for each in one_in(3, sorted(RESULTS.keys() - {"fan_in"}))
]
"""One of three always; that which takes three guests in the long form alone."""
ON_THE_LAB.append(pytest.param("fan_in", "lab", marks=[pytest.mark.lab, pytest.mark.long]))


def perform(name: str, backend: str, **options: Any) -> dict[str, Any]:
    """Run an example, and give what its halves returned."""
    return scenario.load(str(FILES[name])).run(backend, **options)


def test_every_example_is_tested() -> None:
    assert set(FILES) == set(RESULTS) | SERVERS


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_taken_in_at_a_glance(path: Path) -> None:
    """What is longer is a program, and stands in a folder that says how to use it."""
    assert len(path.read_text().splitlines()) <= SCREEN_AND_A_HALF


@pytest.mark.parametrize(("name", "backend"), [*((name, "sim") for name in RESULTS), *ON_THE_LAB])
def test_an_example_gives_the_same_results_everywhere(
    name: str, backend: str, request: pytest.FixtureRequest
) -> None:
    """Twice: nothing may be left in xenstore that the next run would take for its own."""
    if backend == "lab":
        request.getfixturevalue("lab")
    for _ in range(2):
        assert perform(name, backend) == RESULTS[name]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("seed", [*one_in(1, range(10)), *drawn(4)])
def test_an_example_gives_the_same_results_on_every_schedule(name: str, seed: int) -> None:
    assert perform(name, "sim", seed=seed) == RESULTS[name]
