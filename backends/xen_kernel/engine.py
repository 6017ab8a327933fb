"""The engine's program, asked: it runs as a process of its own, so that nothing a kernel does to
its process is done to this one. What it prints is a JSON object a line; see engine/main.c."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from threading import TIMEOUT_MAX, Event, Thread, Timer
from typing import IO, Any

from activations.signals import unheard
from xen_kernel.errors import KernelError
from xen_kernel.scenario import Scenario
from xen_kernel.symbols import Symbols
from xen_sim.explore.verdict import Figures

COMPLETE, FOUND, OUT_OF_TIME, OUT_OF_STATES, OUT_OF_MEMORY, INTERRUPTED, DIED = range(7)
"""How a search ended: enum ended in engine/search.h."""

GO, DELIVER, STORED, MOVES = 0, 1, 2, 6
"""A move is MOVES * agent, and what it is; STORED and up is one of its stores. In engine/engine.h
too."""

STEPS = (
    *("read", "write", "locked", "fence", "cli", "hlt", "block", "hypercall", "raise", "wait"),
    *("handler returns", "upcall", "store is seen", "wfi", ""),
)
"""enum kind in engine/engine.h, as words of a report."""

Live = Callable[[Figures, str], object]
"""Told now and then how far a search is, and what it does."""

GRACE = 30
"""Seconds that a process is given beyond its own limit before it is ended."""

OFTEN = 0.1
"""Seconds after which is looked whether there is something to tell."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a run, as it was about to be made."""

    agent: int
    kind: int
    address: int
    size: int
    site: int
    handler: int
    answer: int
    preempts: int
    options: Sequence[int]
    """Moves that were possible."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a search, or a run, came to. `ends` are the memories in which no agent goes on;
    `given`, tasks that one process gave to another."""

    result: int
    wrong: int
    said: str
    site: int
    states: int
    runs: int
    moves: int
    depth: int
    seconds: float
    ends: int
    given: int
    agents: Sequence[str]
    shared: Sequence[int]
    way: Sequence[int]


MOST_MEMORY = 1 << 43
"""Bytes. The engine takes several times as many addresses, of 47 bits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search gives up. Raises `KernelError` for a limit that cannot be."""

    seconds: float = 600.0
    """Of processor time, of each process."""
    memory: int = 3 << 30
    """Bytes."""
    states: int = 200_000_000

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise KernelError(f"{self.seconds} is not a number of seconds: give one, or inf")
        if not 0 < self.memory <= MOST_MEMORY:
            most = MOST_MEMORY >> 20
            raise KernelError(f"{self.memory >> 20} MiB of memory: the engine takes up to {most}")


class Program:
    """A kernel's program with a scenario."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self.path = path
        self.scenario = scenario

    @cached_property
    def symbols(self) -> Symbols:
        return Symbols(self.path, (*self.scenario.kernel, self.scenario.harness))

    def search(
        self,
        limits: Limits,
        *,
        bound: int | None = None,
        every: bool = False,
        reduced: bool = False,
        goes_on: bool = False,
        shared: Sequence[int] = (),
        ends: bool = False,
        live: Live | None = None,
        jobs: int = 1,
    ) -> tuple[Result, list[dict[str, Any]]]:
        """Every state, or with at most `bound` preemptions, or every schedule, or, `reduced`,
        one order of moves where others come to the same; and, if they are asked for, the different
        ends. By `jobs` processes."""
        asked = [f"seconds={limits.seconds}", f"memory={limits.memory}", f"states={limits.states}"]
        asked += [f"bound={-1 if bound is None else bound}", f"every={int(every)}"]
        asked += [
            f"reduced={int(reduced)}",
            f"goes_on={int(goes_on)}",
            f"ends={int(ends)}",
            f"jobs={jobs}",
            _shared(shared),
        ]
        lines = self._ask("search", asked, limits.seconds, live)
        return Result(**lines[-1]), lines[:-1]

    def remember(self, token: str, shared: Sequence[int]) -> None:
        """Keep which words were shared as this token was given, for replay."""
        with suppress(OSError):
            self._kept(token).write_text(json.dumps(list(shared)))

    def remembered(self, token: str) -> Sequence[int] | None:
        try:
            return [int(address) for address in json.loads(self._kept(token).read_text())]
        except (OSError, ValueError, TypeError):
            return None

    def forget(self, token: str) -> None:
        with suppress(OSError):
            self._kept(token).unlink()

    def _kept(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{token[-16:]}.shared")

    def replay(self, way: Sequence[int], shared: Sequence[int]) -> tuple[Result, list[Move]]:
        """One run, by its answers."""
        asked = [f"way={','.join(map(str, way))}", _shared(shared)]
        lines = self._ask("replay", asked, GRACE)
        return Result(**lines[-1]), [Move(**line) for line in lines[:-1]]

    def _ask(
        self, what: str, asked: Sequence[str], seconds: float, live: Live | None = None
    ) -> list[dict[str, Any]]:
        command = [
            str(self.path),
            what,
            *self.scenario.arguments(),
            *asked,
            f"live={int(bool(live))}",
        ]
        with (
            TemporaryFile("w+") as complaints,
            unheard() as heard,  # by the engine too, until it can take a Ctrl-C
            _started(command, complaints) as process,
        ):
            patience = Timer(min(20 * seconds + GRACE, TIMEOUT_MAX), process.kill)
            patience.start()
            answers = _Answers(process, live)
            try:
                answers.take(heard)
            finally:
                patience.cancel()
                answers.end()
            complaints.seek(0)
            if process.wait() and not answers.cut(-process.returncode):
                raise KernelError(self._why(process.returncode, complaints.read()))
        return answers.lines

    def _why(self, status: int, complained: str) -> str:
        """What is to be said of a process that did not come to its end."""
        where, _, rest = complained.partition(" ")
        if where == "boot":
            site, _, said = rest.strip().partition(" ")
            line = self.symbols.line(int(site, 16))
            return f"{line or site}: {said}, while it boots and before anything is explored"
        if status < 0:
            name = signal.Signals(-status).name
            return f"the engine was ended by {name}: {complained.strip() or 'is memory left?'}"
        return f"the engine ended with {status}: {complained.strip()}"


def _started(command: Sequence[str], complaints: IO[str]) -> subprocess.Popen[str]:
    """Raises `KernelError` where the program is not one that this machine runs."""
    try:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
            errors="replace",  # what a harness says need not be UTF-8
        )
    except OSError as error:
        raise KernelError(
            f"cannot run what was compiled ({error}): set XDG_CACHE_HOME to a folder of yours from "
            "which programs may be run"
        ) from error


class _Answers:
    """What an engine's process prints, read until it has ended.

    A thread reads it: Ctrl-C strikes the main thread alone, and there it would lose a line that has
    come and is not yet kept.
    """

    def __init__(self, process: subprocess.Popen[str], live: Live | None) -> None:
        self.lines: list[dict[str, Any]] = []
        self._process = process
        self._live = live
        self._far: dict[str, Any] = {}
        self._over = Event()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def take(self, heard: Callable[[], None]) -> None:
        """Ctrl-C ends the search, which says what it has covered; another one ends this. `heard`
        lets in what came before there was a process to be told."""
        try:
            heard()
            self._watch()
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
            self._over.wait()

    def end(self) -> None:
        """End the process, and what reads from it."""
        self._process.kill()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for text in self._process.stdout:
                if text.endswith("\n"):  # or it was killed in the midst of a line
                    self._keep(json.loads(text))
        finally:
            self._over.set()

    def _keep(self, line: dict[str, Any]) -> None:
        if line.pop("at", False):
            self._far = line
        else:
            self.lines.append(line)

    def _watch(self) -> None:
        """Tell how far the search is, while it goes on."""
        told = self._far
        while not self._over.wait(OFTEN):
            if self._live is not None and (far := self._far) is not told:
                told = far
                self._live(_figures(far), "every state")

    def cut(self, signalled: int) -> bool:
        """Whether the process was killed in the midst of a search, as where a machine has no memory
        left: what it had covered is the answer then."""
        if signalled != signal.SIGKILL or not self._far:
            return False
        nothing = {
            "wrong": 0,
            "said": "",
            "site": 0,
            "ends": 0,
            "given": 0,
            "agents": [],
            "shared": [],
            "way": [],
        }
        self.lines = [{"result": OUT_OF_MEMORY, **self._far, **nothing}]
        return True


def _figures(far: dict[str, Any]) -> Figures:
    return Figures(far["runs"], far["seconds"], far["moves"], far["depth"], states=far["states"])


def _shared(addresses: Sequence[int]) -> str:
    return f"shared={','.join(f'{address:x}' for address in addresses)}"
