"""The engine's program, asked: it runs as a process of its own, so that nothing a kernel does to
its process is done to this one. What it prints is a JSON object a line; see engine/main.c."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xen_kernel.errors import KernelError
from xen_kernel.scenario import Scenario
from xen_kernel.symbols import Symbols

COMPLETE, FOUND, OUT_OF_TIME, OUT_OF_STATES, OUT_OF_MEMORY = range(5)
"""How a search ended: enum ended in engine/search.h."""

STEPS = (
    *("read", "write", "locked", "fence", "cli", "hlt", "block", "hypercall", "raise", "wait"),
    *("handler returns", "upcall", "store is seen", ""),
)
"""enum kind in engine/engine.h, as words of a report."""

GRACE = 30
"""Seconds that a process is given beyond its own limit before it is ended."""


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
    """Moves that were possible: 3 * agent, and 1 more for an upcall, 2 for a store to be seen."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a search, or a run, came to. `ends` are those that are different and right."""

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
    agents: Sequence[str]
    shared: Sequence[int]
    way: Sequence[int]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search gives up."""

    seconds: float = 600.0
    """Of processor time."""
    memory: int = 3 << 30
    """Bytes."""
    states: int = 200_000_000


class Program:
    """A kernel's program with a scenario."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self.path = path
        self.scenario = scenario
        self.symbols = Symbols(path, (*scenario.kernel, scenario.harness))

    def search(
        self,
        limits: Limits,
        *,
        bound: int | None = None,
        every: bool = False,
        goes_on: bool = False,
        shared: Sequence[int] = (),
        ends: bool = False,
    ) -> tuple[Result, list[dict[str, Any]]]:
        """Every state, or with at most `bound` preemptions, or every schedule; and, if they are
        asked for, the different ends."""
        asked = [f"seconds={limits.seconds}", f"memory={limits.memory}", f"states={limits.states}"]
        asked += [f"bound={-1 if bound is None else bound}", f"every={int(every)}"]
        asked += [f"goes_on={int(goes_on)}", f"ends={int(ends)}", _shared(shared)]
        lines = self._ask("search", asked, limits.seconds)
        return Result(**lines[-1]), lines[:-1]

    def replay(self, way: Sequence[int], shared: Sequence[int]) -> tuple[Result, list[Move]]:
        """One run, by its answers."""
        asked = [f"way={','.join(map(str, way))}", _shared(shared)]
        lines = self._ask("replay", asked, GRACE)
        return Result(**lines[-1]), [Move(**line) for line in lines[:-1]]

    def _ask(self, what: str, asked: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        command = [str(self.path), what, *self.scenario.arguments(), *asked]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        patience = 20 * seconds + GRACE
        try:
            said, complained = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise KernelError(f"the engine gave no answer in {patience:.0f} s") from None
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise KernelError(self._why(process.returncode, complained))
        return [json.loads(line) for line in said.split("\n") if line]

    def _why(self, status: int, complained: str) -> str:
        """What is to be said of a process that did not come to its end."""
        where, _, rest = complained.partition(" ")
        if where == "boot":
            site, _, said = rest.strip().partition(" ")
            line = self.symbols.line(int(site, 16))
            return f"{line or site}: the kernel {said} while it boots, before anything is explored"
        if status < 0:
            name = signal.Signals(-status).name
            return f"the engine was ended by {name}: {complained.strip() or 'is memory left?'}"
        return f"the engine ended with {status}: {complained.strip()}"


def _shared(addresses: Sequence[int]) -> str:
    return f"shared={','.join(f'{address:x}' for address in addresses)}"
