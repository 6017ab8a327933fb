"""Random programs in search of a difference, in pieces that several processes can share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from activations.abi.xs_wire import HEADER

from . import compare, random_programs
from .compare import Difference, Make
from .program import Kind, Program


def search(library: Path, make: Make, requests: int, seed: int) -> tuple[int, Difference | None]:
    """Random programs until so many requests were compared, or one differs: how many were, and what
    differs."""
    done = 0
    for program in random_programs.programs(seed):
        if done >= requests:
            break
        done += count(program)
        if found := compare.run(library, make, program):
            return done, found
    return done, None


@dataclass(frozen=True)
class Search:
    """What each piece of a search needs to know, as it is handed to a process."""

    library: Path
    requests: int
    """Of one piece."""
    shrinking: bool

    def __call__(self, seed: int) -> tuple[int, str]:
        """One piece: how many requests were compared, and the difference in words, or nothing."""
        from .simulated import Simulated

        done, found = search(self.library, Simulated, self.requests, seed)
        if found and self.shrinking:
            found = compare.shrunk(self.library, Simulated, found)
        return done, str(found or "")


def count(program: Program) -> int:
    """How many requests are in it."""
    total = 0
    for step in program.steps:
        if step.kind in (Kind.ASK, Kind.PUT):
            at = 0
            while at + HEADER.size <= len(step.data):
                at += HEADER.size + HEADER.unpack_from(step.data, at)[3]
                total += 1
    return total
