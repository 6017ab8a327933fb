"""Scenarios: what a file holds is what stands in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from activations import Domain, DomainFailed, Scenario, ScenarioError, run, scenario


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


def test_a_path_that_is_not_a_file_is_told_with_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    write(file, "left")
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path, "a folder: name a file in it"),
        (tmp_path / "it", f"no such file: is it {file}?"),
        (f"{file}:left", f"no such file: a scenario of {file} is named with two colons, {file}::"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "other.py", "no such file"),
        (file / "other.py", "Not a directory"),
    ):
        with pytest.raises(ScenarioError) as error:
            scenario.load(str(path))
        assert f"{path}: {says}" in str(error.value)


def test_a_folder_that_may_not_be_entered_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ScenarioError, match=r"it\.py: Permission denied"):
        scenario.load(str(tmp_path / "it.py"))


def test_a_domain_has_a_name() -> None:
    one = Scenario("one")
    with pytest.raises(ScenarioError, match=r'write @one\.domain\("guest"\), or "dom0"'):

        @one.domain  # type: ignore[arg-type]
        async def guest(xen: Domain) -> None: ...


def test_a_program_that_is_no_coroutine_function_is_told_so() -> None:
    one = Scenario("one")

    @one.domain("guest")  # type: ignore[arg-type]
    def ordinary(xen: Domain) -> None: ...

    with pytest.raises(DomainFailed, match=r"ordinary returned None.*`async def ordinary\(xen\)`"):
        one.run()


def test_a_traceback_begins_with_the_program() -> None:
    """What lies above it, a backend and asyncio, its writer has not written."""
    one = Scenario("one")

    @one.domain("guest")
    async def raises(xen: Domain) -> None:
        raise RuntimeError("broken")

    said = one.outcome().failures["guest"].splitlines()
    assert said[0].startswith("Traceback")
    assert "in raises" in said[1]
    assert f'File "{__file__}"' in said[1]
    assert said[-1] == "RuntimeError: broken"


@pytest.mark.parametrize("number", ["3", 3.0, None])
def test_a_number_that_is_none_is_refused_before_xen_is_asked(number: Any) -> None:
    async def main(xen: Domain) -> None:
        for bind in (
            lambda: xen.events.bind_interdomain(0, number),
            lambda: xen.events.bind_interdomain(number, 3),
            lambda: xen.events.alloc_unbound(number),
            lambda: xen.events.bind_virq(number),
        ):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                bind()

    run(main)


@pytest.mark.parametrize("source", [b"\xff", b"x = '\0'", b"# coding: nonsense\n"])
def test_bytes_that_are_no_source_are_one_error(source: bytes, tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_bytes(source)
    with pytest.raises(ScenarioError, match=r"it\.py: (SyntaxError|ValueError|UnicodeError)"):
        scenario.load(str(file))
