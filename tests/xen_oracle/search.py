"""Random programs in search of a difference, in pieces that several processes can share."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from . import compare, random_programs
from .compare import Difference, Make
from .program import Kind
from .xen import Library, Xen, copied


def search(
    library: Library, make: Make, steps: int, seed: int, without: Set[Kind] = frozenset()
) -> tuple[int, Difference | None]:
    """Random programs until so many steps were compared, or one differs: how many were, and what
    differs. `without` names kinds of steps that they are not to have."""
    done = 0
    for program in random_programs.programs(seed, without):
        if done >= steps:
            break
        done += len(program.steps)
        if found := compare.run(library, make, program):
            return done, found
    return done, None


SIMULATORS = ("simulator", "explored")
"""The plain machine, and the one whose every step could be another's: they share all but the
two-level ABI's hottest lines."""


@dataclass(frozen=True)
class Search:
    """What each piece of a search needs to know, as it is handed to a process."""

    library: Path
    against: str
    """`simulator`, `explored`, `xen`, or the path of another library."""
    shrinking: bool
    steps: int
    """Of one piece."""

    def __call__(self, seed: int) -> tuple[int, str]:
        """One piece: how many steps were compared, and the difference in words, or nothing."""
        witness = _witness(self.library)
        make, without = self._world()
        done, found = search(witness, make, self.steps, seed, without)
        if found and self.shrinking:
            found = compare.shrunk(witness, make, found)
        return done, str(found or "")

    def _world(self) -> tuple[Make, frozenset[Kind]]:
        """What makes the World, and what that has not."""
        if self.against in SIMULATORS:
            from .simulator import LACKS, Explored, Simulated

            return Explored if self.against == "explored" else Simulated, LACKS
        other = self.library if self.against == "xen" else Path(self.against)
        return partial(Xen, Library(other)), frozenset()


@cache
def _witness(library: Path) -> Library:
    """A process has one: what is loaded stays, and it holds a good deal of memory."""
    with TemporaryDirectory() as folder:
        return copied(library, Path(folder))
