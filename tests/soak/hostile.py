"""Feeds a subject hostile inputs, and says what they did that they must not.

A batch is made of its subject's name, the seed and its own number alone: what breaks is broken
again by that batch, without those before it. A subject takes its own typed errors; whatever else it
raises, or finds hurt, is a fault.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

Feed = Callable[[Random], int]
"""Feeds one batch; how many inputs that were."""

BATCH = 100
"""How many inputs a batch has, where each takes little."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`make` gives what feeds it; what that builds once is kept over the batches."""

    name: str
    what: str
    make: Callable[[], Feed]


def of_each(one: Callable[[Random], object], *errors: type[Exception]) -> Callable[[], Feed]:
    """A subject that keeps nothing from one input to the next."""

    def feed(random: Random) -> int:
        for _ in range(BATCH):
            with suppress(*errors):
                one(random)
        return BATCH

    return lambda: feed


@dataclass(slots=True)
class Fed:
    """How far it is. `grown` is the memory blocks of the interpreter since the first tenth, for
    each hundred that there were."""

    inputs: int = 0
    batches: int = 0
    grown: float = 0.0


class Broken(Exception):
    """A subject did what it must not. Says the line that does it again."""


ROUGHLY = 2.0
"""Percent by which memory may differ from one moment to another: caches, counters' length."""


def feed(subject: Subject, inputs: int, seed: int, first: int = 0) -> Iterator[Fed]:
    """Feed it so many inputs, from this batch on. Raises `Broken`."""
    take = subject.make()
    fed = Fed(batches=first)
    early = 0
    while fed.inputs < inputs:
        random = Random(f"{subject.name} {seed} {fed.batches}")
        try:
            fed.inputs += take(random)
        except Exception as error:
            again = f"hostile --only {subject.name} --seed {seed} --batch {fed.batches}"
            raise Broken(f"{subject.name}: {type(error).__name__}: {error}\n  {again}") from error
        fed.batches += 1
        if not early and fed.inputs >= inputs / 10:
            early = blocks()
        yield fed
    fed.grown = (blocks() - early) / early * 100
    if fed.grown > ROUGHLY:
        raise Broken(f"{subject.name}: memory grew by {fed.grown:.1f} % over {fed.inputs} inputs")


def blocks() -> int:
    """Blocks of memory that the interpreter has in use, once garbage is collected."""
    gc.collect()
    return sys.getallocatedblocks()
