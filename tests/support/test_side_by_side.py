"""What `tests/run` says of parts of the tests that ran at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.pace import patience
from support.places import TESTS

COMMAND = [sys.executable, str(TESTS / "support" / "side_by_side.py")]
CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from support.needs import leave_out
from support.reporting import pytest_addoption, pytest_configure
"""
PASSES = """
import pytest
@pytest.mark.lab
def test_on_a_real_xen(): pass
def test_elsewhere(): pass
"""

pytestmark = pytest.mark.once  # each starts a few pytests

Write = Callable[[str], None]


@pytest.fixture(autouse=True)
def plain_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without plugins that are installed and that nothing here needs: to import them takes most of
    what such a pytest takes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the tests of a project of their own."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    lab\n    own_lab\n    long\n")
    (tmp_path / "tests").mkdir()
    return lambda text: (tmp_path / "tests/test_it.py").write_text(textwrap.dedent(text)) and None


def run(folder: Path, *parts: str) -> tuple[int, str]:
    """Its exit status and output. Whether what is left out fails is for these tests to say, not for
    the run that they are part of."""
    told = {name: value for name, value in os.environ.items() if name != "ACTIVATIONS_TESTS"}
    done = subprocess.run([*COMMAND, *parts], cwd=folder, env=told, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_all_parts_are_summed_up_as_one(write: Write, tmp_path: Path) -> None:
    write(PASSES)
    status, out = run(tmp_path, "lab", "others")
    assert status == 0
    assert out.endswith("\n2 passed, 0 failed, 0 skipped\n")
    assert "s  tests/test_it.py::test_on_a_real_xen\n" in out
    assert "\non a real Xen: 1 tests in" in out


def test_a_part_on_a_real_xen_imports_no_file_without_such_tests(
    write: Write, tmp_path: Path
) -> None:
    write(PASSES)
    (tmp_path / "tests/test_other.py").write_text("raise ValueError('is imported')")
    status, out = run(tmp_path, "lab")
    assert (status, "\non a real Xen: 1 tests in" in out) == (0, True), out
    status, out = run(tmp_path, "lab", "others")
    assert (status, "is imported" in out) == (1, True)


def test_rules_run_on_a_real_xen_of_their_own(write: Write, tmp_path: Path) -> None:
    write(PASSES)
    (tmp_path / "tests/test_rules.py").write_text(PASSES)
    (tmp_path / "tests/sim").mkdir()
    (tmp_path / "tests/sim/test_probe.py").write_text(PASSES)
    status, out = run(tmp_path, "lab", "rules")
    assert status == 0, out
    assert "\non a real Xen: 1 tests in" in out
    assert "\nrules on a real Xen: 2 tests in" in out


def test_a_failure_is_told_with_what_the_test_printed(write: Write, tmp_path: Path) -> None:
    write(
        PASSES
        + """
import pytest
def test_fails():
    print("some words")
    assert 1 == 2
@pytest.fixture
def torn():
    yield
    raise ValueError("cannot be torn down")
def test_that_passes_and_cannot_be_torn_down(torn): pass
"""
    )
    status, out = run(tmp_path, "lab", "others")
    assert status == 1
    assert "assert 1 == 2" in out
    assert "some words" in out
    assert out.endswith(
        "\nFAILED without one: tests/test_it.py::test_fails"
        "\nFAILED without one: tests/test_it.py::test_that_passes_and_cannot_be_torn_down"
        "\n2 passed, 2 failed, 0 skipped\n"
    )


def test_what_is_left_out_is_said_once(write: Write, tmp_path: Path) -> None:
    write(
        PASSES
        + """
from support.needs import leave_out
def test_one(): leave_out("the moon", "wait for the night")
def test_other(): leave_out("the moon", "wait for the night")
"""
    )
    status, out = run(tmp_path, "lab", "others")
    assert status == 0
    assert out.count("left out: the moon (wait for the night)\n") == 1
    assert out.endswith("\n2 passed, 0 failed, 2 skipped\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os\ndef test_dies(): print('last words'); os._exit(3)", "pytest ended with 3"),
        ("import nonesuch", "No module named 'nonesuch'"),
        ("", "pytest ended with 5"),
    ],
    ids=["dies", "cannot be imported", "has no tests"],
)
def test_a_part_that_does_not_come_to_its_end_has_failed(
    write: Write, tmp_path: Path, text: str, said: str
) -> None:
    write(text)
    status, out = run(tmp_path, "others")
    assert status == 1
    assert said in out


def test_what_tests_took_is_remembered(write: Write, tmp_path: Path) -> None:
    """And what others took that did not run now."""
    write(PASSES)
    kept = tmp_path / ".venv" / "seconds.json"
    kept.parent.mkdir()
    kept.write_text('{"test_long_ago.py::test": 7.0}')
    run(tmp_path, "others")
    seconds = json.loads(kept.read_text())
    assert seconds.keys() == {"test_long_ago.py::test", "tests/test_it.py::test_elsewhere"}


def test_what_computes_is_nice_to_what_waits_for_the_lab(write: Write, tmp_path: Path) -> None:
    """In a session of its own, which is nice as well where Linux goes by sessions."""
    write(
        f"""
        import os, pathlib, pytest
        def tell(part):
            group = pathlib.Path("/proc/self/autogroup")
            nice = group.read_text().split()[-1] if group.exists() else "5"
            pathlib.Path({str(tmp_path)!r}, part).write_text(f"{{os.nice(0)}} {{nice}}")
        @pytest.mark.lab
        def test_on_a_real_xen(): tell("lab")
        def test_elsewhere(): tell("others")
        """
    )
    before = os.nice(0)
    run(tmp_path, "lab", "others")
    assert (tmp_path / "others").read_text() == f"{min(before + 5, 19)} 5"
    assert (tmp_path / "lab").read_text().startswith(f"{before} ")


def test_another_python_may_do_without_the_accelerator(write: Write, tmp_path: Path) -> None:
    write(
        """
        import os
        def test_pure(): assert os.environ["ACTIVATIONS_PURE"] == "1"
        """
    )
    python = tmp_path / ".venv-3.99.1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    status, out = run(tmp_path, f"{python}:pure")
    assert status == 0, out
    assert "\non Python 3.99.1, pure: 1 tests in" in out


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_all_parts(
    number: signal.Signals, status: int, write: Write, tmp_path: Path
) -> None:
    write(
        f"""
        import pathlib, time
        def test_takes_long():
            try:
                pathlib.Path({str(tmp_path / "begun")!r}).touch()
                time.sleep(3600)
            finally:
                pathlib.Path({str(tmp_path / "ended")!r}).touch()
        """
    )
    running = subprocess.Popen([*COMMAND, "others"], cwd=tmp_path, stdout=subprocess.PIPE)
    while not (tmp_path / "begun").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    running.communicate(timeout=patience(20))
    assert running.returncode == status
    assert (tmp_path / "ended").exists()
