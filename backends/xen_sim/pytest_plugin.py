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
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from inspect import iscoroutinefunction
from traceback import walk_tb
from typing import TYPE_CHECKING, Any
from unittest import SkipTest, TestCase

import pytest

if TYPE_CHECKING:
    from activations.domain import Domain
    from xen_sim.explore.programs import Programs
    from xen_sim.life import Main
    from xen_sim.machine import Machine

MACHINE, DOMAIN = "xen_machine", "xen_domain"
"""The fixtures that a test takes."""
_HAS_MACHINE = pytest.StashKey[bool]()
"""Of a test for which a machine was made that runs in one order alone."""
_RAISED = pytest.StashKey[BaseException | None]()
"""Of an explored test that fails: what it raised in the run that is told."""
SEARCH = {"explore", "seconds", "strategy", "limit", "jobs", "faults", "late"}
"""What a mark says of a search: any of them asks for one."""
NUMBERS = {
    "explore": ("runs", 1),
    "jobs": ("processes", 1),
    "limit": ("deviations", 0),
    "late": ("steps", 0),
}
"""Those that are numbers: of what, and the least that each may be."""
OPTIONS = SEARCH | {"seed", "domains"}
CAPTURES = {"capsys", "capsysbinary", "capteesys", "capfd", "capfdbinary"}
"""Fixtures by which a test reads what is printed; elsewhere that is part of the one run told."""
FORGET = dict.fromkeys(CAPTURES, "readouterr") | {"caplog": "clear"}
"""How pytest's own fixtures forget the run before: what a test reads of them is of its run."""
RUNS = 1000
"""Of a search whose mark does not say."""


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
    item.stash[_HAS_MACHINE] = _runs(item) is None
    machine = Machine(seed=_seed(item))
    yield machine
    machine.close()


@pytest.fixture
def xen_domain() -> Domain:
    """The domain in which a coroutine function marked `xen` runs: dom0 of a simulated machine."""
    return None  # type: ignore[return-value]  # there is one as soon as the test runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises `UsageError` for a test that cannot be what its mark and its fixtures say."""
    for item in items:
        if isinstance(item, pytest.Function) and (wrong := _wrong(item)):
            raise pytest.UsageError(f"{item.nodeid}: {wrong}")


def _wrong(item: pytest.Function) -> str | None:
    """What is wrong with a test, and what would be right."""
    return _wrong_in_marks(item) or _wrong_with_fixtures(item)


def _wrong_in_marks(item: pytest.Function) -> str | None:
    said, is_coroutine = _said(item), iscoroutinefunction(_body(item))
    if any(mark.args for mark in item.iter_markers("xen")):
        return "xen() is told its options by name: xen(explore=200)"
    if unknown := said.keys() - OPTIONS:
        return f"xen() knows no {', '.join(unknown)}: {', '.join(sorted(OPTIONS))}"
    for name, (counted, least) in NUMBERS.items():
        if name in said and not (_is_number(said[name]) and said[name] >= least):
            return f"{name}={said[name]!r} is not a number of {counted}: give {least} or more"
    if not _is_number(said.get("seed", 0)):
        return f"seed={said['seed']!r} is not a whole number"
    if "domains" in said and not is_coroutine:
        return "domains= is for coroutine functions; a plain one boots its own"
    domains = said.get("domains", {})
    if not isinstance(domains, Mapping) or "dom0" in domains:
        return "domains= says what runs beside dom0, which the test is: {'guest': client}"
    if _is_marked(item) and is_coroutine and item.cls and issubclass(item.cls, TestCase):
        return (
            "unittest runs its coroutine functions on a loop of its own: write a class that is not "
            "a TestCase"
        )
    return None


def _wrong_with_fixtures(item: pytest.Function) -> str | None:
    is_marked, is_coroutine = _is_marked(item), iscoroutinefunction(_body(item))
    takes = _takes(item)
    if is_marked and getattr(item.obj, "is_hypothesis_test", False):
        return (
            "hypothesis calls it once for each example, and each needs a machine of its own: make "
            "it in the test, by xen_sim.Machine(), and leave out the mark"
        )
    if DOMAIN in _fixtures_take(item):
        return f"a fixture takes `{DOMAIN}`, which is there as the test runs, and no sooner"
    if DOMAIN in takes and not is_coroutine:
        return (
            f"`{DOMAIN}` is the domain that a coroutine function runs in: write `async def`, or "
            f"take `{MACHINE}`"
        )
    if DOMAIN in takes and not is_marked:
        return (
            f"`{DOMAIN}` is for tests marked xen; where another plugin runs the test on our loop, "
            "its domain is activations.current()"
        )
    if is_marked and not is_coroutine and MACHINE not in item.fixturenames:
        return f"a test marked xen takes `{MACHINE}`"
    if SEARCH & _said(item).keys() and not _explorable(item):
        return (
            f"a test that is explored takes `{MACHINE}` itself, and no fixture of its does: it is "
            "new in each run"
        )
    return None


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
    raised = item.stash.get(_RAISED, None)
    if raised is not None and call.when == "call":
        item.stash[_RAISED] = None
        if isinstance(call.excinfo and call.excinfo.value, pytest.fail.Exception):
            call.excinfo = pytest.ExceptionInfo.from_exception(raised)
    if report.failed and item.stash.get(_HAS_MACHINE, False):
        report.sections.append(("Xen", _schedule(item)))
    return report


def _schedule(item: pytest.Item) -> str:
    seed = _seed(item)
    if seed is not None:
        return f'scheduled by seed {seed}\npytest "{item.nodeid}" --xen-seed {seed}'
    said = "every domain ran in turn\n"
    said += f'pytest "{item.nodeid}" --xen-seed 1        another order'
    if _explorable(item):
        said += (
            f'\npytest "{item.nodeid}" --xen-explore 1000  a thousand, and the shortest that fails'
        )
    return said


# What is asked of a test


def _is_marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("xen") is not None


def _said(item: pytest.Item) -> dict[str, Any]:
    """What its marks say; of what several say, the nearest one's."""
    said: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("xen"))):
        said |= mark.kwargs
    return said


def _is_number(said: object) -> bool:
    return isinstance(said, int) and not isinstance(said, bool)


def _seed(item: pytest.Item) -> int | None:
    """By which its machine is scheduled, or its search goes: the command line's, or its mark's."""
    given: int | None = item.config.getoption("--xen-seed")
    return given if given is not None else _said(item).get("seed")


def _runs(item: pytest.Item) -> int | None:
    """In how many runs it is explored, a token's one among them; None where it is not."""
    if not _explorable(item):
        return None
    if item.config.getoption("--xen-replay") is not None:
        return RUNS
    given: int | None = item.config.getoption("--xen-explore")
    if given is not None:
        return given or None
    said = _said(item)
    return said.get("explore", RUNS) if SEARCH & said.keys() else None


# The test


def _test(item: pytest.Function) -> _Once | _Explored | None:
    """What takes the test's place; None where it is a test like any other."""
    if not _is_ours(item):
        return None
    program, runs = _Program(_body(item), _said(item).get("domains", {})), _runs(item)
    return _Once(item, program) if runs is None else _Explored(item, program, runs)


def _is_ours(item: pytest.Function) -> bool:
    """Whether it runs in a domain, or takes a machine."""
    return _is_marked(item) if iscoroutinefunction(_body(item)) else MACHINE in _takes(item)


def _explorable(item: pytest.Item) -> bool:
    """Whether it can be run again and again, on a machine that is new each time: what a fixture has
    done to one is done once."""
    return (
        isinstance(item, pytest.Function) and _is_ours(item) and MACHINE not in _fixtures_take(item)
    )


def _takes(item: pytest.Function) -> set[str]:
    """The fixtures that the test itself takes."""
    return set(item._fixtureinfo.argnames)


def _fixtures_take(item: pytest.Function) -> set[str]:
    """The fixtures that its fixtures take."""
    taken: set[str] = set()
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():
        for definition in reversed(definitions):
            taken.update(definition.argnames)
            if name not in definition.argnames:  # else it takes the one that it overrides
                break
    return taken


def _body(item: pytest.Function) -> Any:
    """The test as it was written. pytest-asyncio has a plain function in a coroutine's place."""
    body = item.obj
    while not iscoroutinefunction(body) and hasattr(body, "__wrapped__"):
        body = body.__wrapped__
    return body if iscoroutinefunction(body) else item.obj


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

        module, said = self.item.module.__name__.rpartition(".")[2], _said(self.item)
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
            except BaseException as error:
                self.item.stash[_RAISED] = error
                raise

        engine = Programs(program, run, fails=_fails, late=late)
        return engine.faulty(said.get("faults", "none"))

    def _explore(self, engine: Programs) -> None:
        from xen_sim.explore.database import FOLDER, Database
        from xen_sim.explore.search import Effort, explore

        said = {key: value for key, value in _said(self.item).items() if key in SEARCH - {"late"}}
        how = {"seconds": None, **said, "seed": _seed(self.item) or 0}
        how["runs"] = self.runs
        how.pop("explore", None)
        effort = Effort(**how)
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
