"""Who makes the runs: this process, or workers of any `concurrent.futures` executor.

A worker that dies takes nothing with it: what it was about to do is done again by another one, and
said. One recipe that kills three workers is left out, and said too.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol

from activations.errors import BackendError
from xen_sim.explore.engine import Engine, Run
from xen_sim.explore.strategies import Recipe, Strategy

Share = list[tuple[Strategy, Recipe]]
"""Recipes that are done in one go, and whose they are."""

DEATHS = 3


class Crew(Protocol):
    """Takes shares, and gives runs."""

    size: int
    """How many recipes make a share."""
    notes: list[str]

    def hungry(self) -> bool:
        """Whether it would take another share now."""

    def busy(self) -> bool:
        """Whether anything is under way."""

    def take(self, share: Share) -> None: ...

    def done(self) -> Iterator[tuple[Share, list[Run]]]:
        """Shares that are done; waits a little for the next one."""


class Alone:
    """This process: one recipe at a time."""

    size = 1

    def __init__(self, engine: Engine) -> None:
        self.notes: list[str] = []
        self._engine = engine
        self._shares: list[Share] = []

    def hungry(self) -> bool:
        return not self._shares

    def busy(self) -> bool:
        return bool(self._shares)

    def take(self, share: Share) -> None:
        self._shares.append(share)

    def done(self) -> Iterator[tuple[Share, list[Run]]]:
        while self._shares:
            share = self._shares.pop()
            yield share, _perform(self._engine, [recipe for _, recipe in share])


class Workers:
    """Processes, or whatever else an executor has."""

    size = 8

    def __init__(
        self,
        executor: Callable[[], Executor],
        work: Callable[[list[Recipe]], list[Run]],
        jobs: int,
        patience: float = 0.2,
    ) -> None:
        self.notes: list[str] = []
        self._make = executor
        self._executor = executor()
        self._work = work
        self._jobs = jobs
        self._patience = patience
        self._out: dict[Future[list[Run]], Share] = {}
        self._deaths = 0

    def hungry(self) -> bool:
        return len(self._out) < 2 * self._jobs

    def busy(self) -> bool:
        return bool(self._out)

    def take(self, share: Share) -> None:
        future = self._executor.submit(self._work, [recipe for _, recipe in share])
        self._out[future] = share

    def done(self) -> Iterator[tuple[Share, list[Run]]]:
        ready, _ = wait(self._out, self._patience, FIRST_COMPLETED)
        for future in ready:
            if future not in self._out:
                continue  # it went with its worker, and is done again
            try:
                runs = future.result()
            except BrokenProcessPool:
                self._again()
                return
            yield self._out.pop(future), runs

    def _again(self) -> None:
        """A worker has died: what is under way is done again."""
        self._deaths += 1
        self.notes.append("a worker died; its share was done again")
        lost, self._out = list(self._out.values()), {}
        self._executor.shutdown()  # its threads are gone before others are forked
        self._executor = self._make()
        if self._deaths >= DEATHS:
            self.notes.append(f"{DEATHS} workers died: what they were about to do was left out")
            raise WorkersDied
        for share in lost:
            self.take(share)

    def close(self) -> None:
        for future in self._out:
            future.cancel()
        self._executor.shutdown(wait=True, cancel_futures=True)


class WorkersDied(Exception):
    """One after the other: the program ends its process, or there is no memory."""


@contextmanager
def crew(engine: Engine, jobs: int = 1, executor: Executor | None = None) -> Iterator[Crew]:
    """This process for one job, else as many workers; or an executor of the caller's, to which the
    engine is sent, so that it has to be one that can be pickled."""
    if isinstance(executor, ThreadPoolExecutor):
        raise BackendError(
            "runs share chance, time and stdout with all threads of their process: take an "
            "executor that has processes"
        )
    if executor is not None:
        workers = Workers(lambda: executor, _Sent(engine), jobs)
        yield workers
        return
    if jobs == 1:
        with engine.session():
            yield Alone(engine)
        return
    context = multiprocessing.get_context("fork")  # what is explored may be a closure

    def pool() -> Executor:
        return ProcessPoolExecutor(jobs, context, _begin, (engine,))

    workers = Workers(pool, _by_the_worker, jobs)
    try:
        yield workers
    finally:
        workers.close()


_engine: Engine
"""A worker's own."""


def _begin(engine: Engine) -> None:
    """A worker starts. Ctrl-C is its parent's."""
    global _engine
    _engine = engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _by_the_worker(recipes: list[Recipe]) -> list[Run]:
    with _engine.session():
        return _perform(_engine, recipes)


class _Sent:
    """Runs by an engine that goes with the recipes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, recipes: list[Recipe]) -> list[Run]:
        with self._engine.session():
            return _perform(self._engine, recipes)


def _perform(engine: Engine, recipes: Sequence[Recipe]) -> list[Run]:
    return [engine.run(recipe.tape()) for recipe in recipes]
