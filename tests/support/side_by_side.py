"""Runs parts of the tests at the same time, each a pytest of its own, and tells of all as of one.

    side_by_side.py PART...        lab, rules, others, labs; these with `:long`; or another Python,
                                   which with `:eager` has eager tasks on every loop, and with
                                   `:pure` does without the accelerator

in the folder of the project.

So two cores have enough to do: while tests of the lab wait for the emulated machine, the others
compute. How many tests are done, and when about the rest will be, is said on a line that changes on
a terminal, and every half minute elsewhere. What a test took is remembered for that
(`.venv/seconds.json`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = Path(".venv", "seconds.json")
UNKNOWN = {"lab": 1.5, "rules": 2.0, "labs": 4.0}
SHORT = 0.05
"""Seconds that a test of a part, or of any other part, is thought to take of which nothing is
known."""
BELIEF = 60.0
"""For how many seconds of tests that is believed before this run has shown how slow it is."""
LONGEST_LINE = 1 << 26
SLOWEST = 10
QUIET = 30.0
"""Seconds between two words on how far it is, where nobody looks at a terminal."""

PARTS = {
    "lab": ("on a real Xen", "lab and not own_lab"),
    "rules": ("rules on a real Xen", "lab and not own_lab"),
    "others": ("without one", "not lab"),
    "labs": ("on one each", "own_lab"),
}
"""What is said of each, and the marks of the tests in it."""
ON_A_REAL_XEN = "lab", "rules", "labs"
RULES = "tests/test_rules.py", "tests/sim/"
"""What a real Xen and the simulator are held against each other by. It is near half of what runs on
the one that all share; apart from the rest, on another, it runs beside it."""
LAB = re.compile(r"\bmark\.lab\b")
"""What every file says that has a test on a real Xen: conftest.py sees to it."""
POLITELY = [
    *("sh", "-c", '{ echo 5 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 5 "$@"'),
    "politely",
]
"""The emulated machine wakes and sleeps all the time, and what takes longest there waits for it.
Where Linux shares its processors out among sessions (autogroup), how nice a process is counts only
within its session: so each part is one, and the session is nice too."""


def files_of(part: str) -> list[str]:
    """Those with tests on a real Xen that are in this part, in pytest's order. It imports whatever
    it looks for tests in, and all other files have none of these."""
    every = sorted(Path("tests").rglob("test_*.py"))
    found = [str(file) for file in every if LAB.search(file.read_text("utf-8"))]
    if part == "labs":
        return found
    return [file for file in found if file.startswith(RULES) == (part == "rules")]


def span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Part:
    """A run of pytest: what it is to run, and what has come of it."""

    def __init__(self, words: str, known: dict[str, float]) -> None:
        what, _, form = words.partition(":")
        if what in PARTS:
            python, (self.name, marks) = sys.executable, PARTS[what]
        else:
            python, marks = what, f"{PARTS['others'][1]} and not once"
            self.name = f"on Python {Path(what).parent.parent.name.removeprefix('.venv-')}"
        if form == "long":
            marks += " and long"
        options = ["--eager"] if form == "eager" else []
        environment = ["env", "ACTIVATIONS_PURE=1"] if form == "pure" else []
        self.name += f", {form}" if options or environment else ""
        first = [] if what in ON_A_REAL_XEN else POLITELY
        files = files_of(what) if what in ON_A_REAL_XEN else []
        self.command = [*first, *environment, python, "-m", "pytest", "-m", marks, *options, *files]
        self._known = known
        self._unknown = UNKNOWN.get(what, SHORT)
        self.left: dict[str, None] | None = None
        """Tests that have not run yet, once it is known which will."""
        self.done: dict[str, float] = {}
        """Seconds by test."""
        self.began = self.ended = 0.0
        self.broken = ""
        """What it printed, if it ended as no run of pytest should."""

    @property
    def took(self) -> float:
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0

    def count(self) -> str:
        total = len(self.done) + len(self.left or ())
        return f"{self.name} {len(self.done)}/{total if self.left is not None else '?'}"

    def wants(self) -> float:
        """About how many seconds more, as slow as it has been so far."""
        if self.ended or self.left is None:
            return 0.0
        pace = (self.took + BELIEF) / (sum(map(self._usual, self.done)) + BELIEF)
        return sum(map(self._usual, self.left)) * pace

    def _usual(self, test: str) -> float:
        return self._known.get(test, self._unknown)

    def take(self, message: dict[str, Any]) -> None:
        if "tests" in message:
            self.left = dict.fromkeys(message["tests"])
        else:
            self.done[message["test"]] = message["seconds"]
            if self.left is not None:
                self.left.pop(message["test"], None)


class Run:
    """All parts, and what is told of them."""

    def __init__(self, parts: Iterable[str]) -> None:
        self.known: dict[str, float] = {}
        with suppress(OSError, ValueError):
            self.known = json.loads(SECONDS.read_text())
        self.parts = [Part(words, self.known) for words in parts]
        self.outcomes: Counter[str] = Counter(passed=0, failed=0, skipped=0)
        self.failures: list[str] = []
        self.left_out: dict[str, None] = {}
        self.told = signal.SIGTERM
        """Which signal ended it."""
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._slots = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        """Two on one core too: the lab often waits for nothing but its own clock."""

    async def all(self) -> int:
        """Run every part to its end, and say what came of them: the exit status."""
        self._end_when_told()
        saying = asyncio.create_task(self._keep_saying())
        try:
            await asyncio.gather(*map(self._run, self.parts))
        finally:
            saying.cancel()
            self._clear()
            self._sum_up()
        return 1 if self.failures else 0

    def _end_when_told(self) -> None:
        """The parts are sessions of their own, which hear of no terminal."""
        this = asyncio.current_task()
        assert this is not None

        def end(number: signal.Signals) -> None:
            self.told = number
            this.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
                asyncio.get_running_loop().add_signal_handler(number, end, number)

    async def _run(self, part: Part) -> None:
        async with self._slots:
            part.began = time.monotonic()
            with tempfile.TemporaryFile() as output:
                status = await self._listen(part, output)
                part.ended = time.monotonic()
                if status not in (0, 1) or part.left is None or part.left:
                    output.seek(0)
                    said = output.read().decode(errors="replace")
                    self._fail(f"{part.name}: pytest ended with {status}", said)

    async def _listen(self, part: Part, output: Any) -> int:
        """Start it, and take what it tells until it ends: its exit status."""
        ours, theirs = os.pipe()
        reader = asyncio.StreamReader(LONGEST_LINE)
        process = await asyncio.create_subprocess_exec(
            *part.command,
            f"--report-to={theirs}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb")
        )
        try:
            async for line in reader:
                self._take(part, json.loads(line))
            return await process.wait()
        finally:
            transport.close()
            if process.returncode is None:
                process.send_signal(signal.SIGINT)  # the lab ends with its tests
                await process.wait()

    def _take(self, part: Part, message: dict[str, Any]) -> None:
        part.take(message)
        if "test" not in message:
            return
        self.outcomes[message["outcome"]] += 1
        if message["outcome"] == "failed":
            self._fail(f"{part.name}: {message['test']}", message["text"])
        elif message["text"]:
            self.left_out[message["text"]] = None

    def _fail(self, what: str, text: str) -> None:
        self.failures.append(what)
        self._clear()
        print(f"FAILED {what}\n{text}\n", flush=True)

    # What is said meanwhile

    async def _keep_saying(self) -> None:
        while True:
            await asyncio.sleep(0.5 if self._terminal else QUIET)
            if self._terminal:
                print(f"\r\x1b[K{self._how_far()}", end="", flush=True)
            else:
                print(self._how_far(), flush=True)

    def _clear(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="")

    def _how_far(self) -> str:
        begun = [part for part in self.parts if part.began]
        counts = ", ".join(part.count() for part in begun if not part.ended)
        failed = f", {self.outcomes['failed']} failed" if self.outcomes["failed"] else ""
        went = time.monotonic() - self._began
        whole = [part.took + part.wants() for part in begun]
        waiting = (len(self.parts) - len(begun)) * max(whole, default=0.0)
        wants = [part.wants() for part in begun]
        left = max([*wants, (sum(wants) + waiting) / min(2, len(self.parts))])
        return f"{span(went)}: {counts}{failed}; about {span(left)} more"

    # What is said in the end

    def _sum_up(self) -> None:
        took = {test: each for part in self.parts for test, each in part.done.items()}
        with suppress(OSError):
            SECONDS.write_text(json.dumps(self.known | took))
        print(f"\nthe {SLOWEST} slowest tests:")
        for test, seconds in sorted(took.items(), key=lambda item: -item[1])[:SLOWEST]:
            print(f"{seconds:8.1f} s  {test}")
        print()
        for part in self.parts:
            print(f"{part.name}: {len(part.done)} tests in {span(part.took)}")
        print(f"all of it in {span(time.monotonic() - self._began)}")
        for each in self.left_out:
            print(f"left out: {each}")
        for each in self.failures:
            print(f"FAILED {each}")
        print(
            ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()), flush=True
        )


def main() -> int:
    run = Run(sys.argv[1:])
    try:
        return asyncio.run(run.all())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + run.told


if __name__ == "__main__":
    sys.exit(main())
