"""Who makes the runs: this process, or workers of any `concurrent.futures` executor.

A worker that dies takes nothing with it: what it was about to do is done again by another one, and
said. A share that has killed three workers ends the search, and that is said too.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from activations.errors import BackendError
from xen_sim.explore.engine import Engine, Run
from xen_sim.explore.hands import Answer, Died, Errand, answered
from xen_sim.explore.strategies import Recipe, Strategy

Share = list[tuple[Strategy, Recipe]]
"""Recipes that are done in one go, and whose they are."""

NEAR, FAR = 8, 32
"""Recipes of a share: for processes of our own, and for workers that take long to reach."""
DEATHS = 3
LAST_SHARES = 2.0
"""Seconds for what an executor of the caller's has under way as a search ends."""
AGAIN = "a worker died; its share was done again"
LEFT_OUT = f"{DEATHS} workers died: what they were about to do was left out"


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
            yield share, [self._engine.run(recipe.tape()) for _, recipe in share]


class _Gone(Exception):
    """The process that was to do a share has died."""


class WorkersDied(Exception):
    """One after the other: the program ends its process, or there is no memory."""


@dataclass(frozen=True, slots=True)
class _Under:
    """A share that is under way."""

    share: Share
    deaths: int = 0
    """How many workers have died of it."""


class Workers:
    """Processes, or whatever else an executor has."""

    def __init__(
        self,
        executor: Executor,
        work: Callable[[int, list[Recipe]], Answer],
        jobs: int,
        renewed: Callable[[Executor], Executor],
        size: int,
        patience: float = 0.2,
    ) -> None:
        self.size = size
        self.notes: list[str] = []
        self._executor = executor
        self._work = work
        self._jobs = jobs
        self._renewed = renewed
        """An executor to go on with, where this one may have lost workers."""
        self._patience = patience
        self._out: dict[Future[Answer], _Under] = {}
        self._given = 0

    def hungry(self) -> bool:
        return len(self._out) < 2 * self._jobs

    def busy(self) -> bool:
        return bool(self._out)

    def take(self, share: Share) -> None:
        self._give(_Under(share))

    def done(self) -> Iterator[tuple[Share, list[Run]]]:
        ready, _ = wait(self._out, self._patience, FIRST_COMPLETED)
        for future in ready:
            if future not in self._out:
                continue  # it went with its worker, and is done again
            try:
                runs = _runs(future)
            except _Gone as gone:
                self._again(future, gone)
                continue
            yield self._out.pop(future).share, runs

    def _give(self, under: _Under) -> None:
        """No two calls are alike: to some executors those are one."""
        self._given += 1
        recipes = [recipe for _, recipe in under.share]
        try:
            future = self._executor.submit(self._work, self._given, recipes)
        except RuntimeError as error:  # it is broken, or was shut down
            self.notes.append(f"the executor takes nothing more: {error}")
            raise WorkersDied from None
        self._out[future] = under

    def _again(self, future: Future[Answer], gone: _Gone) -> None:
        """A worker has died: what it had under way is done again, and so is all that its executor
        may have lost with it."""
        self.notes.append(AGAIN)
        under = self._out.pop(future)
        lost = [_Under(under.share, under.deaths + 1)]
        if gone.__cause__ is not None:
            before, self._executor = self._executor, self._renewed(self._executor)
            if self._executor is not before:
                lost += [_Under(each.share, each.deaths + 1) for each in self._out.values()]
                self._out.clear()
        if any(each.deaths >= DEATHS for each in lost):
            self.notes.append(LEFT_OUT)
            raise WorkersDied
        for each in lost:
            self._give(each)

    def close(self, patience: float = 0.0) -> None:
        """What is under way may end in so many seconds, and nothing is begun any more after them:
        some executors complain of work that is cancelled as it runs."""
        _, late = wait(self._out, patience)
        for future in late:
            future.cancel()


def _runs(future: Future[Answer]) -> list[Run]:
    """Work catches whatever a run may raise: what comes of the future itself is the executor's."""
    try:
        answer = future.result()
    except Exception as error:
        raise _Gone from error
    if isinstance(answer, Died):
        raise _Gone
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def crew(engine: Engine, jobs: int = 1, executor: Executor | None = None) -> Iterator[Crew]:
    """This process for one job, else as many workers; or an executor of the caller's, to which the
    engine is sent. Raises `BackendError` for one that cannot be pickled."""
    if executor is not None:
        errand = Errand(engine)
        workers = Workers(executor, errand, jobs, lambda same: same, FAR)
        try:
            yield workers
        finally:
            workers.close(LAST_SHARES)
            errand.over()
        return
    if jobs == 1:
        with engine.session():
            yield Alone(engine)
        return
    with _pool(engine, jobs) as workers:
        yield workers


@contextmanager
def _pool(engine: Engine, jobs: int) -> Iterator[Workers]:
    """Processes of our own. They are forked: what is explored may be a closure."""
    context = multiprocessing.get_context("fork")
    made: list[Executor] = []

    def pool() -> Executor:
        try:
            made.append(ProcessPoolExecutor(jobs, context, _begin, (engine,)))
        except OSError as error:  # of a semaphore
            raise BackendError(
                f"no {jobs} processes can search: /dev/shm, by which they wait for each other, "
                f"cannot be written ({error.strerror}): search in one (leave out --jobs)"
            ) from error
        return made[-1]

    def another(broken: Executor) -> Executor:
        broken.shutdown()  # its threads are gone before others are forked
        return pool()

    workers = Workers(pool(), _by_the_worker, jobs, another, NEAR)
    try:
        yield workers
    finally:
        workers.close()
        made[-1].shutdown(wait=True, cancel_futures=True)


_engine: Engine
"""A worker's own."""


def _begin(engine: Engine) -> None:
    """A worker starts. Ctrl-C is its parent's."""
    global _engine
    _engine = engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _by_the_worker(number: int, recipes: Sequence[Recipe]) -> Answer:
    return answered(_engine, recipes)
