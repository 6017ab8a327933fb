"""The `activations` command: help, doctor, the lab's shell, shell completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.pace import patience
from support.places import DOCS, EXAMPLES

from activations import registry
from activations.backend import Check
from activations.cli import main, status
from activations.cli.output import span
from activations.errors import BackendError
from activations.outcome import Observer

ACTIVATIONS = Path(sys.executable).with_name("activations")


class StandIn:
    """A backend that says what it is told to."""

    protocol_version = registry.PROTOCOL_VERSION

    def __init__(self, *checks: Check) -> None:
        self.checks = checks
        self.shells: list[str] = []

    def doctor(self) -> Sequence[Check]:
        return self.checks

    def shell(self, domain: str, observer: Observer) -> int:
        self.shells.append(domain)
        return 5


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put backends here by name: they are the ones that are installed."""
    installed: dict[str, Any] = {}

    def load(name: str) -> Any:
        if isinstance(installed.get(name), Exception):
            raise installed[name]
        if name not in installed:
            raise BackendError(f"unknown backend {name!r}")
        return installed[name]

    monkeypatch.setattr(registry, "names", lambda: sorted(installed))
    monkeypatch.setattr(registry, "find", load)
    return installed


# Help and the like


def test_the_installed_command_shows_help_at_once() -> None:
    began = time.monotonic()
    done = subprocess.run([ACTIVATIONS, "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < patience(5)
    for command in ("run", "demo", "doctor", "lab"):
        assert f"\n  {command} " in done.stdout


def test_python_m_activations_is_the_command_with_its_exit_status() -> None:
    module = [sys.executable, "-m", "activations"]
    assert subprocess.run([*module, "--help"], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*module, "frob"], capture_output=True, check=False).returncode == 2


def test_help_loads_no_backend() -> None:
    """Backends may be heavy; only the one that is asked for is imported."""
    code = (
        "import sys; from activations.cli import main; main(['--help']);"
        "print([name for name in sys.modules if name.startswith('xen_')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"activations {version('xen-activations')}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["frob"], ["run"], ["--frob"], ["demo", "surplus"], ["lab", "shell", "nowhere"]],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage: activations" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "evtchn ping --interval",
        "evtchn ping --timeout",
        "evtchn flood --seconds",
        "evtchn ping --wait",
        "evtchn ls --run it.py --at",
        "explore it.py --seconds",
        "top --interval",
        "vchan connect path dom0 --wait",
    ],
)
@pytest.mark.parametrize("seconds", ["nan", "inf", "soon"])
def test_seconds_that_are_not_a_number_are_refused(
    command: str, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), seconds]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "is not a number of seconds: give one, as 2.5" in said or "is not in the range" in said


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("explore it.py --ports 2", "--ports is about a kernel's event code by itself"),
        ("explore it.py --sends 2", "leave it out, or leave out it.py"),
        ("replay it.py x1-abc --sends 2", "--sends is about a kernel's event code by itself"),
        ("explore --html /nosuchfolder/page.html", "no folder /nosuchfolder"),
        ("explore --perfetto /proc/self/fd", "is a directory"),
        ("run it.py --record /nosuchfolder/it.recording", "no folder /nosuchfolder"),
        ("attach net guest --pcap /nosuchfolder/it.pcap", "no folder /nosuchfolder"),
        ("explore --jobs many", "'many' is not a valid whole number"),
        ("detach net guest eth0", "'eth0' is not a valid whole number"),
        ("top python", "'python' is not a valid whole number"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_before_anything_is_done(
    command: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in " ".join(err.split())


def test_a_table_keeps_its_lines_where_the_terminal_knows_ascii_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "activations", "explore", "--guest", "solo5-2020"]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    said = subprocess.run(words, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert said.returncode == 1
    assert "guest                       | dom0\n-----" in said.stdout
    assert " x lost wake-up" in said.stdout
    assert "?" not in said.stdout + said.stderr


def test_a_file_is_not_written_where_its_folder_may_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["explore", "--html", str(tmp_path / "page.html")]) == 2
    assert f"{tmp_path} may not be written to" in " ".join(capsys.readouterr().err.split())


def test_the_table_of_exit_statuses_names_each_that_there_is() -> None:
    """What ends with 129 to 143, and in what order, is in test_cli_ends.py."""
    _, _, table = (DOCS / "cli.md").read_text().partition("## Exit status")
    named = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert named == {number for number in vars(status).values() if isinstance(number, int)}


@pytest.mark.parametrize(
    ("half", "number"), [("pass", 0), ("raise ValueError", 1), ("a syntax error", 2)]
)
def test_a_run_ends_with_the_status_of_the_table(half: str, number: int, tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_text(
        "from activations import Scenario\n"
        "it = Scenario('it')\n"
        "@it.domain('dom0')\n"
        "async def dom0(xen):\n"
        f"    {half}\n"
    )
    assert main(["run", str(file)]) == number


def test_shell_completion_knows_commands_and_backends() -> None:
    def complete(line: str, word: int) -> list[str]:
        done = subprocess.run(
            [ACTIVATIONS],
            env={
                "_ACTIVATIONS_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(word),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    assert "plain,doctor" in complete("activations do", 1)
    assert {"plain,sim", "plain,linux", "plain,lab"} <= set(complete("activations demo -b ", 3))


# doctor


def test_doctor_is_well_where_the_simulator_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "sim: usable" in out
    assert "linux:" in out


def test_doctor_names_the_command_that_mends(
    stand_ins: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_ins["good"] = StandIn(Check("a thing", True, "here"))
    stand_ins["bad"] = StandIn(Check("another", False, "missing", "apt-get install it"))
    assert main(["doctor"]) == 0, "one that is usable is enough"
    assert "apt-get install it" in capsys.readouterr().out
    assert main(["doctor", "good"]) == 0
    assert main(["doctor", "good", "bad"]) == 1, "where they are named, all have to be"


def test_doctor_survives_a_backend_that_cannot_be_loaded(
    stand_ins: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_ins["old"] = BackendError("speaks protocol 0")
    stand_ins["broken"] = ImportError("no module named nothing")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "speaks protocol 0" in out
    assert "no module named nothing" in out


def test_doctor_as_json(stand_ins: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    stand_ins["bad"] = StandIn(Check("another", False, "missing", "apt-get install it"))
    assert main(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["backends"] == [
        {
            "name": "bad",
            "usable": False,
            "checks": [
                {"what": "another", "ok": False, "found": "missing", "mend": "apt-get install it"}
            ],
        }
    ]


def test_doctor_for_a_backend_that_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "nosuch"]) == 2
    assert "unknown backend 'nosuch'; installed: " in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_takes_what_it_gets(closed: str) -> None:
    example = EXAMPLES / "pingpong.py"
    done = subprocess.run(
        f"{ACTIVATIONS} run {example} {closed}", shell=True, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stdout + done.stderr


# lab shell


def test_the_lab_shell_ends_as_the_shell_did(stand_ins: dict[str, Any]) -> None:
    lab = stand_ins["lab"] = StandIn()
    assert main(["lab", "shell"]) == 5
    assert main(["lab", "shell", "pv"]) == 5
    assert lab.shells == ["dom0", "pv"]


def test_a_shell_whose_output_nobody_reads_any_more(
    stand_ins: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread(StandIn):
        def shell(self, domain: str, observer: Observer) -> int:
            sys.stdout.buffer.write(b"$ ")
            return 0

    stand_ins["lab"] = Unread()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["lab", "shell"]) == 141


def test_no_shell_where_the_backend_has_none(
    stand_ins: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_ins["lab"] = object()
    assert main(["lab", "shell"]) == 2
    assert "offers no shell" in capsys.readouterr().err


@pytest.mark.lab
@pytest.mark.own_lab
@pytest.mark.long
def test_the_lab_shell_runs_what_it_reads() -> None:
    done = subprocess.run(
        [ACTIVATIONS, "lab", "shell"],
        input="xl list\nexit 3\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Domain-0" in done.stdout


# Lengths of time


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1500, "1.5 µs"),
        (999_999, "1 ms"),
        (25_000_000, "25 ms"),
        (1_000_000_000, "1 s"),
        (59_940_000_000, "59.9 s"),
        (59_990_000_000, "1 min"),
        (3_600_000_000_000, "1 h"),
        (3_600_100_000_000, "1 h"),
        (3_725_000_000_000, "1 h 2 min 5 s"),
    ],
)
def test_a_length_of_time_is_said_as_people_say_it(ns: int, said: str) -> None:
    assert span(ns) == said
