"""pytest's side of the explorer: a test that is run in many interleavings.

    @pytest.mark.xen(explore=1000)
    def test_nothing_is_lost(xen_machine):
        xen_machine.boot("dom0", server)
        xen_machine.boot("guest", client)
        assert xen_machine.run()["dom0"] == 1

The body is called once for each run, with a machine that is new each time; its other fixtures are
those of the test, and are the same in all runs. A failure comes with its table and its token, and
`pytest --xen-replay TOKEN` runs that test once more on that very course, under a debugger if need
be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xen_sim.explore.programs import Programs
    from xen_sim.machine import Machine

MACHINE = "xen_machine"
"""The fixture that a marked test takes."""
OPTIONS = {"explore", "seconds", "strategy", "limit", "jobs", "seed", "faults"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--xen-replay",
        metavar="TOKEN",
        help="run tests marked xen(explore=...) on the course of this token alone",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "xen(explore=N): run the test in N interleavings of the machine it is given"
    )


@pytest.fixture
def xen_machine() -> Machine:
    """A simulated machine; an explored one where the test is marked so."""
    from xen_sim.machine import Machine

    return Machine()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a marked test as often as its mark says."""
    mark = pyfuncitem.get_closest_marker("xen")
    if mark is None:
        return None
    how = dict(mark.kwargs)
    if unknown := how.keys() - OPTIONS:
        raise pytest.UsageError(f"xen() knows no {', '.join(unknown)}: {', '.join(OPTIONS)}")
    if MACHINE not in pyfuncitem.funcargs:
        raise pytest.UsageError(f"{pyfuncitem.nodeid}: a test marked xen() takes `{MACHINE}`")
    engine = _engine(pyfuncitem).faulty(how.get("faults", "none"))
    token = pyfuncitem.config.getoption("--xen-replay")
    if token is not None:
        engine.again(token)
    else:
        _explore(pyfuncitem, engine, how)
    return True


def _explore(item: pytest.Function, engine: Programs, how: dict[str, Any]) -> None:
    from xen_sim.explore.database import FOLDER, Database
    from xen_sim.explore.search import Effort, explore

    effort = Effort(runs=how.pop("explore", 1000), **{"seconds": None, **how})
    verdict = explore(engine, effort, database=Database(item.config.rootpath / FOLDER))
    if verdict.interrupted:
        raise KeyboardInterrupt
    for found in verdict.found:
        told = f"\n{found.table()}\n" if found.moments else ""
        again = f'pytest "{item.nodeid}" --xen-replay {found.token}'
        pytest.fail(f"{verdict}\n{told}\n{found.finding}\n{found.how()}\n\n{again}", pytrace=False)


def _engine(item: pytest.Function) -> Programs:
    from xen_sim.explore.engine import Program
    from xen_sim.explore.programs import Programs

    names = item._fixtureinfo.argnames
    others = {name: item.funcargs[name] for name in names if name != MACHINE}
    module = item.module.__name__.rpartition(".")[2]
    identity = f"{module}::{item.name}"
    return Programs(
        Program(item.name, identity), lambda machine: item.obj(**{MACHINE: machine}, **others)
    )
