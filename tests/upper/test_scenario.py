"""Scenarios: what a file holds is what stands in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from activations import ScenarioError, scenario


def write(file: Path, name: str) -> None:
    file.write_text(f'import activations\n{name} = activations.Scenario("{name}")\n')


def test_a_file_that_is_written_anew_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the second too, and to the same size: Python's bytecode would be taken for good."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file = tmp_path / "it.py"
    for name in ("left", "back", "left"):
        write(file, name)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert scenario.load(str(file)).name == name
    assert list(tmp_path.iterdir()) == [file], "and nothing is left beside it"


def test_a_half_that_goes_to_another_folder_has_its_lines_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "it.py", "left")
    with (tmp_path / "it.py").open("a") as file:
        file.write("def half(): ...\n")
    monkeypatch.chdir(tmp_path)
    scenario.load("it.py")
    assert sys.modules["scenario_it"].half.__code__.co_filename == str(tmp_path / "it.py")


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "it.txt"
    write(file, "left")
    with pytest.raises(ScenarioError, match="is not a Python file"):
        scenario.load(str(file))


@pytest.mark.parametrize("source", [b"\xff", b"x = '\0'", b"# coding: nonsense\n"])
def test_bytes_that_are_no_source_are_one_error(source: bytes, tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_bytes(source)
    with pytest.raises(ScenarioError, match=r"it\.py: (SyntaxError|ValueError|UnicodeError)"):
        scenario.load(str(file))
