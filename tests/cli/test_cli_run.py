"""`activations run`: what it prints, how it ends, and what it says to bad input."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.pace import patience

from activations.cli import main

ACTIVATIONS = Path(sys.executable).with_name("activations")

HELLO = """
import sys
import time
from activations import Scenario
hello = Scenario("hello")

@hello.domain("dom0")
async def one(xen):
    print("from dom0")
    return 7

@hello.domain("guest")
async def two(xen):
    print("from the guest")
"""

SPEAKS_TO_THE_LAST = """
import asyncio
from activations import Scenario
endless = Scenario("endless")

@endless.domain("dom0")
async def one(xen):
    try:
        print("begun")
        while True:
            await asyncio.sleep(1)
    finally:
        print("cleaned up")
"""

EXITS = """
@mixed.domain("guest")
async def two(xen):
    import sys
    sys.exit({})
"""

CLEANS_UP_WITH_HELP = """
import asyncio
from activations import Scenario
helped = Scenario("helped")

async def serve(asked):
    while True:
        (await asked.get()).set_result("with help")

@helped.domain("dom0")
async def one(xen):
    asked, answer = asyncio.Queue(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(serve(asked))
        try:
            await asyncio.create_task(busy())
        except asyncio.CancelledError:
            asked.put_nowait(answer)
            print("cleaned up", await answer)
            raise
        finally:
            server.cancel()

async def busy():
    print("begun")
    while True:
        await asyncio.sleep(1)
"""


def write(folder: Path, text: str, name: str = "file.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def half(body: str) -> str:
    """A scenario of one domain, whose half this is."""
    return (
        "from activations import Scenario\n"
        "one = Scenario('one')\n"
        "@one.domain('dom0')\n"
        "async def main(xen):\n"
        f"    {body}\n"
    )


# What it prints


def test_lines_come_under_their_domains_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(tmp_path, HELLO)]) == 0
    out, err = capsys.readouterr()
    assert out == " dom0 | from dom0\nguest | from the guest\n", "and nothing else on stdout"
    assert "dom0 returned 7" in err
    assert "hello on sim: all ended well" in err


def test_json_is_one_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(tmp_path, HELLO), "--json"]) == 0
    out, err = capsys.readouterr()
    *lines, result = map(json.loads, out.splitlines())
    assert lines == [
        {"event": "line", "domain": "dom0", "text": "from dom0"},
        {"event": "line", "domain": "guest", "text": "from the guest"},
    ]
    assert result.pop("seconds") > 0
    assert result == {
        "event": "result",
        "ok": True,
        "scenario": "hello",
        "backend": "sim",
        "results": {"dom0": 7, "guest": None},
        "failures": {},
        "facts": {"clock": "virtual", "ns": 0},
    }
    assert err == ""


def test_a_result_that_is_not_json_is_shown_as_its_repr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(tmp_path, half("return 1+2j")), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == {"dom0": "(1+2j)"}


def test_a_terminal_gets_colours(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    file = write(tmp_path, half("print('x' * 100)"))
    done = subprocess.run(
        [ACTIVATIONS, "run", file],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert "\x1b[36mdom0 │" in said
    assert "x" * 100 in said, "long lines are the terminal's to wrap"


def test_markup_in_a_line_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", write(tmp_path, half("print('[red]x[/] :smile:')"))])
    assert "[red]x[/] :smile:\n" in capsys.readouterr().out


# Options


def test_a_seed_repeats_a_trace_byte_for_byte(tmp_path: Path) -> None:
    file, traces = write(tmp_path, HELLO), [tmp_path / "1", tmp_path / "2"]
    for trace in traces:
        assert main(["run", file, "--seed", "3", "--trace", str(trace)]) == 0
    first, second = (trace.read_bytes() for trace in traces)
    assert first == second
    assert b'"domain":"guest"' in first


def test_the_wall_clock_takes_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, half("import asyncio; await asyncio.sleep(0.05)"))
    assert main(["run", file, "--clock", "wall", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] >= 0.05


def test_the_log_is_silent_until_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, half("xen.log.info('thought', about=3)"))
    assert main(["run", file]) == 0
    assert "thought" not in capsys.readouterr().err
    assert main(["run", file, "-v"]) == 0
    line = capsys.readouterr().err.splitlines()[0]
    entry = json.loads(line)
    assert (entry["event"], entry["domain"], entry["about"]) == ("thought", "dom0", 3)


def test_debug_turns_asyncios_debug_mode_on_for_this_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, half("print(xen.loop.get_debug())"))
    for arguments, said in (([], "False"), (["--debug"], "True"), ([], "False")):
        assert main(["run", file, *arguments]) == 0
        assert capsys.readouterr().out == f"dom0 | {said}\n"


def test_one_of_several_scenarios_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, HELLO + half("print('the other')"))
    assert main(["run", file]) == 2
    assert "NAME one of hello, one" in capsys.readouterr().err
    assert main(["run", f"{file}::one"]) == 0
    assert "the other" in capsys.readouterr().out
    assert main(["run", f"{file}::three"]) == 2
    assert "no scenario 'three'; it has: hello, one" in capsys.readouterr().err


# Halves that fail


def test_a_trace_that_cannot_be_written_is_told_of_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(tmp_path, HELLO), "--trace", "/dev/full"]) == 2
    said = capsys.readouterr().err
    assert said == "activations: the trace is lost: /dev/full: No space left on device\n"


def test_ctrl_c_ends_a_trace_that_takes_for_ever_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO that nobody reads; the simulated processor, which would take it, is not there."""

    def save(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("activations.trace.save", save)
    assert main(["run", write(tmp_path, HELLO), "--trace", str(tmp_path / "trace")]) == 130


def test_a_half_that_raises_ends_the_run_with_1_and_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, half("raise RuntimeError('broken')"))
    assert main(["run", file]) == 1
    err = capsys.readouterr().err
    assert "dom0 failed:\nTraceback" in err
    assert "RuntimeError: broken" in err
    assert f'{file}", line 5' in err
    assert main(["run", file, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert "RuntimeError: broken" in result["failures"]["dom0"]


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("said", ["3", "'enough'"])
def test_a_half_that_exits_is_a_failure_of_its_domain(
    clock: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may end its domain; the command is not its own to end."""
    file = write(tmp_path, SPEAKS_TO_THE_LAST.replace("endless", "mixed") + EXITS.format(said))
    assert main(["run", file, "--clock", clock]) == 1
    out, err = capsys.readouterr()
    assert "guest failed:\nTraceback" in err
    assert f'{file}", line' in err
    assert f"SystemExit: {said.strip(chr(39))}" in err
    assert "dom0 | cleaned up" in out


def test_a_blocked_simulation_says_who_waits_for_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, half("with xen.events.alloc_unbound(1) as port: await port.wait()"))
    assert main(["run", file]) == 1
    err = capsys.readouterr().err
    assert "nothing can ever happen again" in err
    assert "'dom0 main' waits for port" in err


# Bad input: one line, and 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "holds no scenario"),
        ("\n\nraise ValueError('boom')", "ValueError on import: boom (at {file}:3)"),
        ("import nosuchmodule", "No module named 'nosuchmodule' (at {file}:1)"),
        ("x = 1\ndef (:", "SyntaxError on import: invalid syntax"),
        ("def (:", "{file}:1)"),
        ("x = '\0'", "null bytes"),
        ("import asyncio\nraise asyncio.CancelledError('no')", "on import: no (at {file}:2)"),
        ("import sys; sys.exit(3)", "ends the process when it is imported"),
        ("import activations; s = activations.Scenario('s')", "has no domains"),
        (
            "import activations; s = activations.Scenario('s')\ns.domain('a')(1); s.domain('a')",
            "two domains called 'a' (at {file}:2)",
        ),
    ],
)
def test_a_file_that_is_no_good_is_explained_in_one_line(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, text)
    assert main(["run", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("activations: ")
    assert err.count("\n") == 1
    assert says.format(file=file) in err
    assert "<frozen" not in err
    assert "None" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "nosuch"], "unknown backend 'nosuch'; installed: "),
        (["--as", "dom0"], "(--as dom0)"),
        (["--seed", "x"], "'x' is not a valid integer"),
        (["--clock", "sundial"], "'sundial' is not one of"),
        (["--trace", "/nosuchfolder/trace"], "no folder /nosuchfolder"),
        (["--trace", "/proc/self/fd"], "is a directory"),
        (["--trace", f"{'a' * 300}/trace"], "no folder aaa"),
        (["--backend", "lab", "--seed", "1"], "a real Xen is not seeded"),
        (["--backend", "lab", "--clock", "virtual"], "a real Xen has real time"),
        (["--log", "loud"], "'loud' is not one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(tmp_path, HELLO), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["run"], ["explore"], ["replay", "x1-aaaaaaaa"]])
@pytest.mark.parametrize(
    ("file", "says"),
    [("/", "a folder"), ("/dev/null", "not a regular file"), ("a" * 300, "File name too long")],
)
def test_what_is_no_file_is_said_in_one_line(
    file: str, says: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], file, *command[1:]]) == 2
    err = capsys.readouterr().err
    assert err.startswith("activations: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_token_longer_than_a_files_name_can_be_is_a_token(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", "x1-" + "a" * 300]) == 2
    assert "cut short or mistyped" in capsys.readouterr().err


def test_a_file_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nosuchfile.py"]) == 2
    assert capsys.readouterr().err == "activations: nosuchfile.py: no such file\n"
    assert main(["run", "nosuchfile.py", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "event": "error",
        "error": "ScenarioError",
        "text": "nosuchfile.py: no such file",
    }
    assert err == ""


def test_debug_shows_the_whole_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", write(tmp_path, "1/0"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


# Interrupted


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_lets_the_halves_clean_up_and_ends_with_130(
    clock: str, as_json: bool, tmp_path: Path
) -> None:
    file = write(tmp_path, SPEAKS_TO_THE_LAST)
    running = subprocess.Popen(
        [ACTIVATIONS, "run", file, "--clock", clock, *(["--json"] if as_json else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert "begun" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=patience(20))
    assert running.returncode == 130, err
    assert "cleaned up" in out
    if as_json:
        assert json.loads(out.splitlines()[-1]) == {"event": "interrupted"}
        assert err == ""
    else:
        assert err == "activations: interrupted\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_while_the_file_is_imported_ends_with_130(as_json: bool, tmp_path: Path) -> None:
    # by os.write: a print that Ctrl-C interrupts as it flushes writes its line once more at the end
    file = write(tmp_path, "import os, time\nos.write(1, b'importing\\n')\ntime.sleep(60)")
    running = subprocess.Popen(
        [ACTIVATIONS, "run", file, *(["--json"] if as_json else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "importing\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=patience(20))
    assert running.returncode == 130
    if as_json:
        assert (json.loads(out), err) == ({"event": "interrupted"}, "")
    else:
        assert (out, err) == ("", "activations: interrupted\n")


def test_ctrl_c_ends_the_program_and_not_what_it_cleans_up_with(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [ACTIVATIONS, "run", write(tmp_path, CLEANS_UP_WITH_HELP)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert "begun" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=patience(20))
    assert (running.returncode, err) == (130, "activations: interrupted\n")
    assert out == "dom0 | cleaned up with help\n"


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path) -> None:
    file = write(tmp_path, half("for number in range(100_000): print(number)"))
    running = subprocess.Popen(
        [ACTIVATIONS, "run", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline() == "dom0 | 0\n"
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(timeout=patience(20)) == 141


@pytest.mark.once
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.long)])
def test_ctrl_c_does_no_harm_wherever_it_strikes(step: int, tmp_path: Path) -> None:
    """It may come between the completion of a future and the waking of who waits for it: runs
    without rest, each interrupted somewhere else, and each can clean up."""
    file = write(tmp_path, SPEAKS_TO_THE_LAST)
    for wait in range(0, 20, step):
        running = subprocess.Popen(
            [ACTIVATIONS, "run", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(wait * 0.0007)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=patience(20))
        assert (running.returncode, err) == (130, "activations: interrupted\n")
        assert out == "dom0 | cleaned up\n"
