"""Programs that the agent forks for: what one sees, and how it ends, is as if it were started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pace import patience
from support.places import HOME

from xen_lab.inside.channel import Decoder, encode, unpack

AGENT = """\
import sys
from pathlib import Path
from xen_lab.inside import agent, half
half.LEARNED = Path(sys.argv.pop())
agent.facts = dict
agent.main()
"""
STARTED = {"PYTHONSTARTUP": ""}
"""With this in its environment a process is started."""
SEES = """\
import os, sys
print(__name__, sys.argv, sys.orig_argv[1:], __file__)
print(os.getcwd(), os.environ["WORD"], os.getsid(0) == os.getpid(), sys.stdin.read() == "")
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1])
print(sys.stdout.encoding, sys.stdout.errors, sys.stdout.write_through, sys.stdout.line_buffering)
print(sys.modules["__main__"].__dict__ is globals(), sys.flags.safe_path)
print("and", file=sys.stderr)
"""
PROGRAMS = {
    "sees": SEES,
    "exits": "import sys; print('so'); sys.exit(3)",
    "exits with words": "import sys; sys.exit('words')",
    "is told of its end": "import atexit; atexit.register(print, 'the end'); print('begun')",
    "is destroyed": "class Last:\n    def __del__(self): print('gone')\nlast = Last()",
    "waits for its threads": "import threading\nthreading.Timer(0.05, print, ['late']).start()",
    "is interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "dies": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "keeps what it opens": (
        "import gc, os; all = [os.open('/', 0) for _ in range(64)]\n"
        "gc.collect(); print([os.fstat(each).st_ino for each in all])"
    ),
}


class Served:
    """An agent in a process on this machine, on a terminal."""

    def __init__(self, learned: Path) -> None:
        self._line, theirs = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", AGENT, os.ttyname(theirs), learned],
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(HOME / "backends"),
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self._theirs = theirs  # open until that has opened it
        self._decoder = Decoder()
        self._number = 0
        self._came: list[Any] = []
        assert self._next()["is"] == "hello"

    def _next(self) -> Any:
        while not self._came:
            self._came += self._decoder.feed(os.read(self._line, 1 << 16))
        return self._came.pop(0)

    def ends(self, env: dict[str, str], *argv: str) -> tuple[int, str]:
        """How this command ends in `/usr`: its status, and what it printed."""
        self._number += 1
        words = {"argv": argv, "env": {"WORD": "word", **env}, "cwd": "/usr"}
        os.write(self._line, encode({"id": self._number, "do": "command", **words}))
        said = b""
        while (message := self._next())["is"] == "stream":
            said += unpack(message["data"])
        assert message["is"] == "exit", message
        return message["status"], said.decode()

    def close(self) -> None:
        os.close(self._theirs)
        os.close(self._line)
        self._process.wait(patience(30))


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("agent") / "learned")
    yield served
    served.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


def said(ended: tuple[int, str]) -> list[str]:
    """The lines, but those of a traceback: the agent's own functions are in it."""
    return [line for line in ended[1].splitlines() if not line.startswith("  ")]


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_forked_program_sees_and_ends_as_one_that_is_started(
    agent: Served, file: Path, what: str
) -> None:
    file.write_text(PROGRAMS[what])
    argv = ["python3", "-P", str(file), "one", "two words"]
    forked, started = agent.ends({}, *argv), agent.ends(STARTED, *argv)
    assert forked[0] == started[0]
    assert said(forked) == said(started)
    if what == "is interrupted":
        assert forked[0] == -signal.SIGINT


def test_one_has_the_modules_that_the_agent_has_and_the_other_not(
    agent: Served, file: Path
) -> None:
    file.write_text(
        "import sys; print('xen_lab.inside.agent' in sys.modules, 'wave' in sys.modules)"
    )
    argv = ["python3", "-P", str(file)]
    assert agent.ends({}, *argv)[1].startswith("True")
    assert agent.ends(STARTED, *argv)[1].startswith("False")


def test_a_failure_is_told_as_a_traceback(agent: Served, file: Path) -> None:
    file.write_text("def f(): raise ValueError('no good')\nf()")
    status, said = agent.ends({}, "python3", "-P", str(file))
    assert status == 1
    assert said.endswith("ValueError: no good\n")


def test_a_folder_that_is_not_there_is_no_end_of_the_agent(agent: Served, file: Path) -> None:
    file.write_text("print('well')")
    assert agent.ends({}, "python3", "-P", str(file)) == (0, "well\n")
    assert agent.ends({}, "nonesuch")[0] == 127
    assert agent.ends({}, "python3", "-P", str(file)) == (0, "well\n")
