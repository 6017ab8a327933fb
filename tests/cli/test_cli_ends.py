"""How the command ends: each of its subcommands that run for long, in every way a process can end.

Each runs as a process, attach and vchan in dom0 of a simulated Xen (long_running.py), and the guest
there says whether it was parted with. What no handler sees, SIGKILL, is in test_attach_lab.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from support.parameters import one_in
from support.places import TESTS

from activations.cli import main

PROGRAM = TESTS / "support" / "long_running.py"
PATIENCE = 60.0
SCENARIO = """
import asyncio, sys
from activations import Scenario

endless = Scenario("endless")

@endless.domain("dom0")
async def dom0(xen):
    try:
        while True:
            print("tick")
            await asyncio.sleep(0.01)
    finally:
        print("tock")
"""


@dataclass(frozen=True)
class Command:
    """One to be ended."""

    words: tuple[str, ...]
    begun: str
    """In the line that says that it is under way."""
    output: str = "stdout"
    asked: bool = False
    """Whether a signal asks it to end well, and it ends with 0."""
    parts: bool = False
    """Whether there is somebody to be parted with."""
    talks: bool = True
    """Whether it goes on saying things."""

    def status(self, number: signal.Signals) -> int:
        return 0 if self.asked else 128 + number


BLOCK = ("attach", "block", "guest", "--memory", "1M")
COMMANDS = {
    "attach block": Command(BLOCK, "in use", "stderr", asked=True, parts=True),
    "attach block --json": Command((*BLOCK, "--json"), "connected", asked=True, parts=True),
    "attach net --json": Command(
        ("attach", "net", "guest", "--json"), "connected", "stdout", True, True
    ),
    "vchan listen": Command(
        ("vchan", "listen", "guest", "/local/domain/1/data/cat", "--stay"), "tick", parts=True
    ),
    "store serve": Command(("store", "serve", "{folder}/socket"), "export", talks=False),
    "store watch": Command(("store", "watch", "/local", "--socket", "{store}"), "/local"),
    "run": Command(("run", "{scenario}", "--clock", "wall"), "tick"),
    "run --json": Command(("run", "{scenario}", "--json"), "tick"),
    "demo --json": Command(("demo", "--json"), "statistics"),
    "lab shell": Command(("lab", "shell"), "$", parts=True),
}
EACH = pytest.mark.parametrize("name", one_in(1, COMMANDS))
TALKING = pytest.mark.parametrize(
    "name", one_in(1, [name for name, each in COMMANDS.items() if each.talks])
)


def taking_turns(ways: Sequence[Any]) -> list[Any]:
    """Each command in one of these ways, by turns; in the others too in the long form."""
    return [
        pytest.param(
            *each.values,
            way,
            id=f"{each.values[0]}-{getattr(way, 'name', way)}",
            marks=each.marks if turn % len(ways) == number else pytest.mark.long,
        )
        for turn, each in enumerate(one_in(1, COMMANDS))
        for number, way in enumerate(ways)
    ]


SIGNALS = pytest.mark.parametrize(("name", "number"), taking_turns([signal.SIGINT, signal.SIGTERM]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A xenstored to be watched."""
    path = tmp_path_factory.mktemp("store") / "socket"
    words = [sys.executable, "-m", "activations", "store", "serve", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        yield path
        server.terminate()


class Started:
    """A command as a process."""

    def __init__(
        self, command: Command, folder: Path, store: Path, wrap: Sequence[str] = (), **streams: Any
    ) -> None:
        self.command = command
        self._store = store
        self._record = folder / "record"
        scenario = folder / "endless.py"
        scenario.write_text(SCENARIO)
        places = {"folder": folder, "scenario": scenario, "store": store}
        words = [word.format(**places) for word in command.words]
        ends: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(
            [*wrap, sys.executable, PROGRAM, self._record, *words], bufsize=0, **(ends | streams)
        )

    def guest_begins(self) -> None:
        self._record.with_suffix(".go").touch()

    def something_happens(self) -> None:
        """Whatever has it say more."""
        self.guest_begins()
        if self.command.words[:2] == ("store", "watch"):
            main(["store", "write", "/local/thing", "1", "--socket", str(self._store)])

    def says(self, what: str) -> IO[bytes]:
        """Wait for a line on its output; gives that."""
        stream: Any = getattr(self.process, self.command.output)
        while what not in (line := stream.readline().decode()):
            assert line, self.process.communicate()
        return stream  # type: ignore[no-any-return]

    def takes_signals(self) -> None:
        """Wait until it has taken charge of its end."""
        status = Path(f"/proc/{self.process.pid}/status")
        until(lambda: int(status.read_text().partition("SigCgt:")[2].split()[0], 16) & 1)

    def served(self) -> None:
        until(lambda: self._record.exists() and self._record.read_text() == "served")

    def is_told_again_if_need_be(self) -> None:
        """As one presses Ctrl-C twice where a program is not heard to have heeded the first."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
            return
        self.process.send_signal(signal.SIGINT)

    def ended(self, *, parted: bool | None = None) -> int:
        """Wait for the end; the exit status."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in (out or b"") + (err or b""), err
        assert b"Exception ignored" not in (err or b"")
        if self.command.parts if parted is None else parted:
            assert self._record.read_text() == "parted"
        return self.process.returncode


def until(condition: Any) -> None:
    late = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.01)


@contextmanager
def started(name: str, folder: Path, store: Path, **streams: Any) -> Iterator[Started]:
    running = Started(COMMANDS[name], folder, store, **streams)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@contextmanager
def full_pipe() -> Iterator[int]:
    """One that takes no byte more, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def unread_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@SIGNALS
def test_a_signal_ends_it_in_order(
    name: str, number: signal.Signals, tmp_path: Path, store: Path
) -> None:
    ends_in_order(name, number, tmp_path, store)


@pytest.mark.parametrize(
    "name", ["attach block", "vchan listen", "store serve", "run", "lab shell"]
)
def test_a_terminal_that_is_closed_ends_it_in_order(name: str, tmp_path: Path, store: Path) -> None:
    ends_in_order(name, signal.SIGHUP, tmp_path, store)


def ends_in_order(name: str, number: signal.Signals, folder: Path, store: Path) -> None:
    with started(name, folder, store) as running:
        running.guest_begins()
        running.says(running.command.begun)
        running.process.send_signal(number)
        assert running.ended(parted=is_parted(name, number)) == running.command.status(number)


def is_parted(name: str, number: signal.Signals) -> bool:
    """Whether there is one who can tell: Ctrl-C goes to both ends of a vchan in one process."""
    return COMMANDS[name].parts and not (number == signal.SIGINT and name.startswith("vchan"))


@SIGNALS
def test_a_server_whose_output_nobody_reads_for_now_serves_and_ends(
    name: str, number: signal.Signals, tmp_path: Path, store: Path
) -> None:
    """And a program, which waits for its reader, ends all the same. The pipe is full."""
    with full_pipe() as pipe:
        command = COMMANDS[name]
        with started(name, tmp_path, store, **{command.output: pipe}) as running:
            running.guest_begins()
            running.takes_signals()
            if command.parts:
                running.served()
            running.process.send_signal(number)
            if number == signal.SIGINT and not command.asked:
                running.is_told_again_if_need_be()
            assert running.ended(parted=is_parted(name, number)) == command.status(number)


@TALKING
def test_a_reader_that_leaves_ends_it_with_141(name: str, tmp_path: Path, store: Path) -> None:
    """As `| head -1` does. Whoever is served is parted with first, though it asked for something
    only then."""
    with started(name, tmp_path, store) as running:
        first = "plugged in" if running.command.asked else running.command.begun
        if not running.command.asked:
            running.guest_begins()
        running.says(first).close()
        setattr(running.process, running.command.output, None)
        running.something_happens()
        assert running.ended() == 141


@EACH
def test_an_output_that_nobody_reads_from_the_beginning_ends_it_with_141(
    name: str, tmp_path: Path, store: Path
) -> None:
    with unread_pipe() as pipe:
        output = {COMMANDS[name].output: pipe}
        with started(name, tmp_path, store, **output) as running:
            running.guest_begins()
            assert running.ended(parted=False) == 141


@EACH
def test_a_device_that_is_full_ends_it_with_2_and_a_word(
    name: str, tmp_path: Path, store: Path
) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        started(name, tmp_path, store, **{COMMANDS[name].output: full}) as running,
    ):
        running.guest_begins()
        err = running.process.stderr
        assert running.process.wait(PATIENCE) == 2
        assert err is None or b"No space left on device" in err.read()


@pytest.mark.parametrize(("name", "closed"), taking_turns(["<&-", "<&- >&- 2>&-"]))
def test_streams_that_are_closed_change_nothing(
    name: str, closed: str, tmp_path: Path, store: Path
) -> None:
    if name == "lab shell":
        closed = closed.replace("<&-", "")  # it has to have one
    command = COMMANDS[name]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    with started(name, tmp_path, store, wrap=shell) as running:
        running.guest_begins()
        if ">" in closed:
            running.takes_signals()
            if command.parts:
                running.served()
        else:
            running.says(command.begun)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == command.status(signal.SIGTERM)


@pytest.mark.parametrize("name", ["run", "run --json", "demo --json", "store watch", "lab shell"])
def test_a_stderr_that_nobody_reads_any_more_is_no_reason_to_end(
    name: str, tmp_path: Path, store: Path
) -> None:
    with unread_pipe() as pipe, started(name, tmp_path, store, stderr=pipe) as running:
        running.guest_begins()
        running.says(running.command.begun)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 143


def test_a_run_that_went_well_ends_with_0_whoever_reads_what_is_said_of_it(tmp_path: Path) -> None:
    scenario = tmp_path / "short.py"
    scenario.write_text(SCENARIO.replace("while True", "if True"))
    for stderr in (unread_pipe(), full_device()):
        with stderr as descriptor:
            done = subprocess.run(
                [sys.executable, "-m", "activations", "run", scenario],
                stdout=subprocess.PIPE,
                stderr=descriptor,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, b"dom0 | tick\ndom0 | tock\n")


@contextmanager
def full_device() -> Iterator[int]:
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


@pytest.mark.parametrize("words", [["--help"], ["doctor"], ["lab", "cache"], ["--version"]])
def test_what_is_said_in_one_piece_is_no_different(words: list[str]) -> None:
    command = [sys.executable, "-m", "activations", *words]
    with unread_pipe() as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (141, b"")
    with full_device() as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 2
        assert done.stderr == b"activations: stdout: No space left on device\n"


def test_a_file_that_is_opened_gets_no_number_of_a_stream_that_is_closed() -> None:
    """Else what is printed would be written into it: into a disk, say."""
    code = (
        "import os, sys; from activations.cli.streams import guarded\n"
        "with guarded(): print(os.open('/dev/null', os.O_RDWR) > 2, file=sys.__stderr__)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        check=True,
    )
    assert done.stderr == b"True\n"


def test_nohup_is_respected(tmp_path: Path, store: Path) -> None:
    wrap = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with started("run", tmp_path, store, wrap=wrap) as running:
        running.says("tick")
        running.process.send_signal(signal.SIGHUP)
        for _ in range(20):
            running.says("tick")
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 143


def test_kill_ends_what_a_shell_has_started_in_the_background(tmp_path: Path, store: Path) -> None:
    """There SIGINT is ignored."""
    wrap = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    for name in ("run", "store watch", "attach block --json", "store serve"):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        with started(name, folder, store, wrap=wrap) as running:
            running.guest_begins()
            running.says(running.command.begun)
            running.process.send_signal(signal.SIGTERM)
            assert running.ended() == running.command.status(signal.SIGTERM)


TAKEN = """
import os, sys
kept = os.open(sys.argv[1], os.O_RDONLY)
assert kept == 1
from activations.cli import main
sys.exit(main(["doctor", "sim"]))
"""


def test_an_output_that_is_closed_is_not_the_file_that_has_its_number_by_now(
    tmp_path: Path,
) -> None:
    """As where a library that is imported before keeps a file open; some do on Python 3.14."""
    kept = tmp_path / "kept"
    kept.touch()
    command = [sys.executable, "-c", TAKEN, str(kept)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
