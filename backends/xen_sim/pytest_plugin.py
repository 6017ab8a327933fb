"""pytest's side of the simulator: tests that run in a domain, and tests that are explored.

    @pytest.mark.xen(explore=1000)
    def test_nothing_is_lost(xen_machine):
        xen_machine.boot("dom0", server)
        xen_machine.boot("guest", client)
        assert xen_machine.run()["dom0"] == 1

    @pytest.mark.xen(domains={"guest": client})
    async def test_the_guest_rings(xen_domain):
        assert await serve(xen_domain) == 1

A plain function boots what it likes on the machine it is given, and runs it. A coroutine function
is dom0's program: it runs on that domain's loop, whatever other plugins do with coroutines.

Where it is explored the test is called once for each run, with a machine that is new each time; its
other fixtures are those of the test, and are the same in all runs. A failure says how to have it
again: by a token, or by the seed of its schedule. docs/pytest.md is the user's view.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from inspect import iscoroutinefunction
from traceback import walk_tb
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest

from xen_sim.pytest_marks import (
    DOMAIN,
    MACHINE,
    SEARCH,
    body_of,
    is_explorable,
    is_ours,
    options_of,
    runs_of,
    seed_of,
    wrong_with,
)

if TYPE_CHECKING:
    from activations.domain import Domain
    from xen_sim.explore.programs import Programs
    from xen_sim.life import Main
    from xen_sim.machine import Machine

_HAS_MACHINE = pytest.StashKey[bool]()
"""Of a test for which a machine was made that runs in one order alone."""
_PASSED = pytest.StashKey[bool]()
"""Of a test that is being torn down: whether it passed."""
_NEVER_RAN = pytest.StashKey[str]()
"""Of a test that booted domains and did not run them: their names."""
_RAISED = pytest.StashKey[BaseException | None]()
"""Of an explored test that fails: what it raised in the run that is told."""
_EFFORT = SEARCH - {"explore", "late"}
"""Those that `Effort` is told of by the same name."""
CAPTURES = {"capsys", "capsysbinary", "capteesys", "capfd", "capfdbinary"}
"""Fixtures by which a test reads what is printed; elsewhere that is part of the one run told."""
FORGET = dict.fromkeys(CAPTURES, "readouterr") | {"caplog": "clear"}
"""How pytest's own fixtures forget the run before: what a test reads of them is of its run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xen", "simulated Xen")
    group.addoption(
        "--xen-seed",
        type=int,
        metavar="N",
        help="schedule machines of tests by this seed, and search with it",
    )
    group.addoption(
        "--xen-explore",
        type=int,
        metavar="N",
        help="explore every test that takes xen_machine or xen_domain itself, in N runs; 0: none",
    )
    group.addoption(
        "--xen-replay",
        metavar="TOKEN",
        help="run the test that this token is of on its course alone",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "xen(explore=N, seed=N, domains={name: program}): run the test on a simulated Xen; with "
        "explore, in N interleavings",
    )
    # the first of all filters: any that a project has goes before it
    config.getini("filterwarnings").insert(0, "default::activations.errors.LeakWarning")
    if (config.getoption("--xen-explore") or 0) < 0:
        raise pytest.UsageError("--xen-explore takes a number of runs, or 0 for none")
    if (token := config.getoption("--xen-replay")) is not None:
        from xen_sim.explore.token import TokenError, parse

        try:
            parse(token)
        except TokenError as error:
            raise pytest.UsageError(f"--xen-replay: {error}") from None


def pytest_report_header(config: pytest.Config) -> str | None:
    asked = {name: config.getoption(f"--xen-{name}") for name in ("seed", "explore", "replay")}
    said = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    return f"xen: {said}" if said else None


@pytest.fixture
def xen_machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A simulated machine; an explored one, anew for each run, where the test is explored."""
    from xen_sim.machine import Machine

    item: pytest.Item = request.node
    item.stash[_HAS_MACHINE] = runs_of(item) is None
    machine = Machine(seed=seed_of(item))
    yield machine
    _note_what_never_ran(item, machine)
    machine.close()
    if _NEVER_RAN in item.stash and item.stash.get(_PASSED, False):
        said = f"{item.stash[_NEVER_RAN]} booted and never ran: a test runs its machine, or tests "
        warnings.warn(said + "nothing (xen_machine.run())", pytest.PytestWarning, stacklevel=1)


def _note_what_never_ran(item: pytest.Item, machine: Machine) -> None:
    if machine.lives and not machine.has_run:
        item.stash[_NEVER_RAN] = ", ".join(life.name for life in machine.lives)


@pytest.fixture
def xen_domain() -> Domain:
    """The domain in which a coroutine function marked `xen` runs: dom0 of a simulated machine."""
    return None  # type: ignore[return-value]  # there is one as soon as the test runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises `UsageError` for a test that cannot be what its mark and its fixtures say."""
    for item in items:
        if isinstance(item, pytest.Function) and (wrong := wrong_with(item)):
            raise pytest.UsageError(f"{item.nodeid}: {wrong}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Put a plain function in the test's place, whatever other plugins have made of it."""
    test = _test(pyfuncitem)
    if test is None:
        return (yield)
    own, pyfuncitem.obj = pyfuncitem.obj, test
    try:
        return (yield)
    finally:
        pyfuncitem.obj = own


@pytest.hookimpl(wrapper=True, trylast=True)  # before `xfail(raises=...)` is looked at
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed on a machine, and was not explored, says by which schedule. One that was
    explored is for other plugins, and a debugger, one that raised what it raised in the run that is
    told."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    raised = item.stash.get(_RAISED, None)
    if raised is not None and call.when == "call":
        item.stash[_RAISED] = None
        if isinstance(call.excinfo and call.excinfo.value, pytest.fail.Exception):
            call.excinfo = pytest.ExceptionInfo.from_exception(raised)
    if report.failed and item.stash.get(_HAS_MACHINE, False):
        report.sections.append(("Xen", _schedule(item)))
    return report


def _schedule(item: pytest.Item) -> str:
    seed = seed_of(item)
    if seed is not None:
        return f'scheduled by seed {seed}\npytest "{item.nodeid}" --xen-seed {seed}'
    said = "every domain ran in turn\n"
    said += f'pytest "{item.nodeid}" --xen-seed 1        another order'
    if is_explorable(item):
        said += (
            f'\npytest "{item.nodeid}" --xen-explore 1000  a thousand, and the shortest that fails'
        )
    return said


# The test


def _test(item: pytest.Function) -> _Once | _Explored | None:
    """What takes the test's place; None where it is a test like any other."""
    if not is_ours(item):
        return None
    program, runs = _Program(body_of(item), options_of(item).get("domains", {})), runs_of(item)
    return _Once(item, program) if runs is None else _Explored(item, program, runs)


@dataclass(frozen=True, slots=True)
class _Program:
    """A test, and the domains that its mark names."""

    body: Any
    domains: Mapping[str, Main]
    """What runs beside a coroutine function."""

    def run(self, machine: Machine, arguments: dict[str, Any]) -> object:
        """Run it on this machine, once."""
        here = {name: machine for name in arguments if name == MACHINE}
        if not iscoroutinefunction(self.body):
            return self.body(**{**arguments, **here})

        async def main(xen: Domain) -> object:
            mine = {name: xen for name in arguments if name == DOMAIN}
            return await self.body(**{**arguments, **here, **mine})

        machine.boot("dom0", main)
        for name, program in self.domains.items():
            machine.boot(name, program)
        machine.run()
        return None


@dataclass(frozen=True, slots=True)
class _Once:
    """A test on one machine."""

    item: pytest.Function
    program: _Program

    def __call__(self, **arguments: Any) -> None:
        machine: Machine = self.item._request.getfixturevalue(MACHINE)  # a fixture's, if one has it
        self.program.run(machine, arguments)


_ENDS = (KeyboardInterrupt, SkipTest, pytest.skip.Exception, pytest.exit.Exception)


def _fails(error: BaseException) -> bool:
    """Whether a test fails of this: of `pytest.fail` and `sys.exit`, too. `pytest.skip` and the
    like end the search, and so does the test's time-out, which is not of this run alone."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_fails, error.exceptions))
    if isinstance(error, pytest.fail.Exception):
        return not (isinstance(error, pytest.xfail.Exception) or _is_time_out(error))
    return not isinstance(error, _ENDS)


def _is_time_out(error: BaseException) -> bool:
    """Whether pytest-timeout raised it, in its signal handler."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "pytest_timeout" for frame in frames)


@dataclass(frozen=True, slots=True)
class _Explored:
    """A test in many interleavings, or in the one of a token."""

    item: pytest.Function
    program: _Program
    runs: int

    def __call__(self, **arguments: Any) -> None:
        engine = self._engine(arguments)
        token = self.item.config.getoption("--xen-replay")
        if token is not None:
            engine.again(token)
        else:
            self._explore(engine)

    def _engine(self, arguments: dict[str, Any]) -> Programs:
        from xen_sim.explore.engine import Program
        from xen_sim.explore.programs import Programs

        module, said = self.item.module.__name__.rpartition(".")[2], options_of(self.item)
        identity, late = f"{module}::{self.item.name}", said.get("late", 0)
        program = Program(self.item.name, f"{identity} late {late}" if late else identity)
        out = sys.stdout

        def run(machine: Machine) -> None:
            for name, forget in FORGET.items():
                if name in arguments:
                    getattr(arguments[name], forget)()
            self.item.stash[_RAISED] = None
            try:
                with redirect_stdout(out) if CAPTURES & arguments.keys() else nullcontext():
                    self.program.run(machine, arguments)
                _note_what_never_ran(self.item, machine)
            except BaseException as error:
                self.item.stash[_RAISED] = error
                raise

        engine = Programs(program, run, fails=_fails, late=late)
        return engine.faulty(said.get("faults", "none"))

    def _explore(self, engine: Programs) -> None:
        from xen_sim.explore.database import FOLDER, Database
        from xen_sim.explore.search import Effort, explore

        said = options_of(self.item)
        how = {name: said[name] for name in said.keys() & _EFFORT}
        seed = seed_of(self.item) or 0
        effort = Effort(**{"seconds": None, **how, "seed": seed, "runs": self.runs})
        verdict = explore(engine, effort, database=Database(self.item.config.rootpath / FOLDER))
        if verdict.interrupted:
            raise KeyboardInterrupt
        if verdict.broken_off:
            pytest.fail(f"{verdict}\n{verdict.notes[-1]}", pytrace=False)
        for found in verdict.found:
            told = f"\n{found.table()}\n" if found.moments else ""
            again = f'pytest "{self.item.nodeid}" --xen-replay {found.token}'
            search = f"searched with seed {effort.seed}"
            pytest.fail(
                f"{verdict}\n{told}\n{found.finding}\n{found.how()}; {search}\n\n{again}",
                pytrace=False,
            )
