"""A program that goes by the order of a set of strings takes the same course in every process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from activations.cli import hashes

BY_ORDER = """
from activations import Domain, Scenario

by_order = Scenario("by_order")


@by_order.domain("guest")
async def main(xen: Domain) -> None:
    raise ValueError(",".join({f"name-{number}" for number in range(20)}))
"""


def explored(folder: Path, *words: str, seed: str | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != hashes.SEED}
    if seed is not None:
        environment[hashes.SEED] = seed
    command = [sys.executable, "-m", "activations", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_a_token_is_for_every_process(tmp_path: Path) -> None:
    (tmp_path / "by_order.py").write_text(BY_ORDER)
    search = ("explore", "by_order.py", "--runs", "3")
    found = explored(tmp_path, *search)
    order = re.findall(r"name-\d+", found)
    assert len(order) >= 20
    token = re.search(r"token: (\S+)", found)
    assert token is not None
    again = explored(tmp_path, "replay", "by_order.py", token[1], seed="random")
    assert re.findall(r"name-\d+", again) == order
    assert re.findall(r"name-\d+", explored(tmp_path, *search, seed="7")) != order, "as it was set"


@pytest.mark.parametrize("seed", ["", "random"])
def test_what_is_no_seed_for_python_is_none_here(
    seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    monkeypatch.setenv(hashes.SEED, seed)
    monkeypatch.setattr(os, "execve", lambda *words: begun.append(words))
    monkeypatch.setattr(sys, "argv", ["activations", "explore", "file.py"])
    hashes.fix()
    assert len(begun) == 1


def test_what_is_called_from_python_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hashes.SEED, raising=False)
    begun: list[object] = []
    monkeypatch.setattr(os, "execve", lambda *words: begun.append(words))
    monkeypatch.setattr(sys, "argv", ["activations", "run", "file.py"])
    hashes.fix()
    assert not begun, "nor is a command that does not explore"
    monkeypatch.setattr(sys, "argv", ["activations", "explore", "file.py"])
    hashes.fix()
    assert len(begun) == 1
