"""A search: runs until something is found, everything is covered, or the budget is used up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from activations.errors import BackendError
from xen_sim.explore.course import ORDINARY, Course, Following, checks
from xen_sim.explore.crew import Crew, WorkersDied, crew
from xen_sim.explore.database import Database
from xen_sim.explore.engine import Account, Engine, Run, TakesFaults
from xen_sim.explore.finding import ESCAPE, SOMETIMES, Finding
from xen_sim.explore.hands import order_of_sets
from xen_sim.explore.portfolio import PORTFOLIO, Turns, strategies
from xen_sim.explore.same import escape
from xen_sim.explore.shrink import shrink
from xen_sim.explore.strategies import Claim
from xen_sim.explore.strategies.chance import Near
from xen_sim.explore.strategies.pct import Pct
from xen_sim.explore.strategies.reduced import Reduced
from xen_sim.explore.token import Token, identify
from xen_sim.explore.verdict import (
    BOUNDED,
    EXHAUSTED,
    FOUND,
    INTERRUPTED,
    OPEN,
    Figures,
    Found,
    Verdict,
)
from xen_sim.faults.kinds import NONE

SECONDS = 60.0
ONE_OF_EACH = "of runs that differ only in the order of independent steps, one was made"
FROM_BEFORE = "a failure from before"
TWICE = "taking it twice"
Live = Callable[[Figures, str], None]
"""Told now and then how far a search is, and what it does."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a search may take."""

    runs: int | None = None
    seconds: float | None = SECONDS
    strategy: str = PORTFOLIO
    limit: int | None = None
    """The most deviations, or preemptions, of a bounded strategy."""
    jobs: int = 1
    seed: int = 0
    """Of the schedule's chance, and of that of faults."""
    faults: str = NONE
    """What may go wrong: kinds as `events,timers`, or `safe`, `all`, `none`."""


class _Hit(Exception):
    """A run broke a promise."""

    def __init__(self, run: Run, strategy: str) -> None:
        super().__init__(strategy)
        self.run = run
        self.strategy = strategy


def explore(
    engine: Engine,
    effort: Effort | None = None,
    *,
    executor: Executor | None = None,
    database: Database | None = None,
    live: Live = lambda figures, doing: None,
) -> Verdict:
    """Search a program. Ctrl-C ends it, and what was found or covered until then is kept.

    An `executor` is any of `concurrent.futures`' kind: threads, processes, other machines. The
    engine is sent there, `effort.jobs` of its workers are kept busy, and it stays open. Raises
    `BackendError` for a strategy or a fault there is not, and for an engine that cannot be pickled.
    """
    effort = effort or Effort()
    if effort.faults != NONE:
        engine = with_faults(engine, effort.faults)
    return _Search(engine, effort, executor, database, live).verdict()


def with_faults(engine: Engine, faults: str) -> Engine:
    """The engine for the same program where these faults happen. Raises `BackendError` for one that
    has none."""
    if not isinstance(engine, TakesFaults):
        raise BackendError(
            f"{engine.program.name} is explored without faults: leave out {faults!r}"
        )
    return engine.faulty(faults)


class _Search:
    def __init__(
        self,
        engine: Engine,
        effort: Effort,
        executor: Executor | None,
        database: Database | None,
        live: Live,
    ) -> None:
        self._engine = engine
        self._effort = effort
        self._executor = executor
        self._database = database
        self._live = live
        faulty = isinstance(engine, TakesFaults) and bool(engine.faults)
        how = effort.seed, effort.limit
        found = strategies(effort.strategy, *how, reducible=engine.reducible, faulty=faulty)
        self._turns = Turns(found)
        self._figures = Figures()
        self._coverage: set[int] = set()
        self._sometimes: dict[str, bool] = {}
        self._notes: list[str] = []
        self._broken_off = False
        self._began = perf_counter()

    def verdict(self) -> Verdict:
        found: Found | None = None
        try:
            with self._engine.session():
                found = self._from_before() or self._escapes()
            if found is None:
                self._go()
        except _Hit as hit:
            found = self._found(hit)
        except KeyboardInterrupt:
            self._notes.append(INTERRUPTED)
        except WorkersDied:
            self._broken_off = True
        self._tick()
        verdict = self._conclude(found)
        verdict.broken_off = self._broken_off
        return verdict

    # The search

    def _go(self) -> None:
        with crew(self._engine, self._effort.jobs, self._executor) as workers:
            try:
                while self._more(workers):
                    for share, runs in workers.done():
                        for (strategy, recipe), run in zip(share, runs, strict=True):
                            self._note(run)
                            if run.finding is not None:
                                raise _Hit(run, strategy.name)
                            strategy.learn(recipe, run)
                    self._tick()
            finally:
                self._notes += workers.notes

    def _more(self, workers: Crew) -> bool:
        """Give out shares; false where there is nothing left to do, or to do it with."""
        given = False
        while workers.hungry():
            if self._used_up() or self._everything():
                return False
            share = self._turns.share(self._room(workers.size))
            if not share:
                return given or workers.busy()
            workers.take(share)
            given = True
        return True

    def _room(self, size: int) -> int:
        runs = self._effort.runs
        return size if runs is None else max(min(size, runs - self._figures.runs), 1)

    def _used_up(self) -> bool:
        runs, seconds = self._effort.runs, self._effort.seconds
        return (runs is not None and self._figures.runs >= runs) or (
            seconds is not None and perf_counter() - self._began >= seconds
        )

    def _everything(self) -> bool:
        return Claim(None) in [strategy.claim() for strategy in self._turns.all]

    def _note(self, run: Run) -> None:
        figures = self._figures
        figures.runs += 1
        figures.steps += run.steps
        figures.depth = max(figures.depth, len(run.options))
        self._coverage |= run.coverage
        for said, kept in run.sometimes.items():
            self._sometimes[said] = kept or self._sometimes.get(said, False)

    def _tick(self, doing: str = "searching") -> None:
        self._figures.seconds = perf_counter() - self._began
        self._figures.coverage = len(self._coverage)
        self._live(self._figures, doing)

    # Before it

    def _from_before(self) -> Found | None:
        """Failures that are known are tried first; one that no longer comes is forgotten."""
        if self._database is None:
            return None
        for kept in self._database.of(self._engine.program.identity):
            run = self._engine.run(Near(kept.token.course))
            self._note(run)
            if run.finding is not None:
                return self._found(_Hit(run, FROM_BEFORE))
            with suppress(OSError):
                self._database.forget(kept)
        return None

    def _escapes(self) -> Found | None:
        """The ordinary course, twice: a program that goes another way the second time cannot be
        searched."""
        said = escape(self._engine)
        if said is None:
            return None
        finding = Finding(ESCAPE, said)
        return Found(finding, self._token(ORDINARY, ()), ORDINARY, strategy=TWICE, runs=2)

    # After it

    def _found(self, hit: _Hit) -> Found:
        run = hit.run
        assert run.finding is not None
        self._tick("shrinking")
        engine = self._engine
        with engine.session():
            course = run.course
            if run.finding.kind != ESCAPE:
                with suppress(KeyboardInterrupt):
                    course = shrink(engine, course, run.finding.kind, self._long_enough())
            account = engine.tell(Following(course))
        if account.run.finding is None:
            why = order_of_sets() if self._executor is not None else ""
            finding = Finding(ESCAPE, f"{run.finding}\nwas found, and did not come again{why}")
            token, runs = self._token(course, ()), self._figures.runs
            return Found(finding, token, course, strategy=hit.strategy, runs=runs)
        return self._keep(account, course, hit.strategy)

    def _long_enough(self) -> Callable[[], bool]:
        """Shrinking may take as long as the search took, and five seconds more."""
        now = perf_counter()
        until = now + (now - self._began) + 5
        return lambda: perf_counter() > until

    def _keep(self, account: Account, course: Course, strategy: str) -> Found:
        assert account.run.finding is not None
        found = checks(course, [taken[:2] for taken in account.taken])
        token = self._token(course, found)
        kind = account.run.finding.kind
        if self._database is not None:
            try:
                self._database.keep(token, self._engine.program.identity, kind, account.taken)
            except OSError as error:
                self._notes.append(
                    f"the failure was not kept in {self._database.folder} ({error.strerror}): "
                    "note its token"
                )
        return Found(
            account.run.finding,
            token,
            course,
            account.moments,
            account.actors,
            strategy,
            self._figures.runs,
        )

    def _token(self, course: Course, found: tuple[int, ...]) -> str:
        program = identify(self._engine.program.identity)
        return str(Token(program, self._engine.seed, course, found or (0,) * len(course)))

    def _conclude(self, found: Found | None) -> Verdict:
        name, figures, notes = self._engine.program.name, self._figures, self._notes
        for strategy in self._turns.all:
            if isinstance(strategy, Pct) and strategy.runs:
                notes.append(strategy.bound())
            if isinstance(strategy, Reduced) and strategy.claim() and found is None:
                notes.append(ONE_OF_EACH)
        if found is not None:
            return Verdict(name, FOUND, figures, [found], notes=notes)
        never = [said for said, kept in self._sometimes.items() if not kept]
        if never and not self._broken_off and INTERRUPTED not in notes:
            finding = Finding(SOMETIMES, f"in no run: {never[0]}")
            token = self._token(ORDINARY, ())
            return Verdict(name, FOUND, figures, [Found(finding, token, ())], notes=notes)
        claims = [claim for each in self._turns.all if (claim := each.claim())]
        if Claim(None) in claims:
            return Verdict(name, EXHAUSTED, figures, notes=notes)
        if not claims:
            return Verdict(name, OPEN, figures, notes=notes)
        best = max(claims, key=lambda claim: claim.bound or 0)
        kind = BOUNDED if best.bound == self._effort.limit else OPEN
        return Verdict(name, kind, figures, bound=best.bound, counted=best.counted, notes=notes)
