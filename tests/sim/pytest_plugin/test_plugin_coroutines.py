"""A coroutine function that is a test runs in a domain, beside those of other plugins."""

from __future__ import annotations

import pytest
from support.pytest_project import IN_A_DOMAIN, ran

pytest_plugins = ["pytester"]

ONE_BACKEND = """
import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
"""Whatever else is installed here: anyio runs a test once more on trio, where that is."""

MODES = [
    pytest.param((), id="strict"),
    pytest.param(("--asyncio-mode=auto",), id="pytest-asyncio takes all coroutines"),
    pytest.param(("--anyio-mode=auto",), id="anyio takes all coroutines"),
    pytest.param(("-p", "no:asyncio", "-p", "no:anyio"), id="neither is there"),
]


@pytest.mark.parametrize("options", MODES)
def test_a_coroutine_function_runs_in_a_domain_whoever_else_takes_coroutines(
    project: pytest.Pytester, options: tuple[str, ...]
) -> None:
    project.makeconftest(ONE_BACKEND)
    ran(project, IN_A_DOMAIN, *options).assert_outcomes(passed=1)


def test_tests_of_three_plugins_stand_in_one_file(project: pytest.Pytester) -> None:
    theirs = """
@pytest.mark.asyncio
async def test_of_pytest_asyncio():
    await asyncio.sleep(0)
    assert not isinstance(asyncio.get_running_loop(), activations.EventLoop)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_anyio():
    await anyio.sleep(0)
    assert not isinstance(asyncio.get_running_loop(), activations.EventLoop)


def test_of_nobody(xen_machine):
    xen_machine.boot("dom0", serve)
    xen_machine.boot("guest", client)
    assert xen_machine.run()["dom0"] == 1
"""
    ran(project, IN_A_DOMAIN + theirs).assert_outcomes(passed=4)


def test_other_fixtures_are_the_tests_own(project: pytest.Pytester) -> None:
    code = """
@pytest.mark.xen(explore=5)
@pytest.mark.parametrize("number", [1, 2])
async def test_it(number, tmp_path, xen_domain, xen_machine):
    assert tmp_path.is_dir() and number in (1, 2)
    assert xen_domain.loop in [life.loop for life in xen_machine.lives]


class TestIt:
    @pytest.mark.xen
    async def test_method(self, xen_domain):
        assert isinstance(self, TestIt)
        assert xen_domain.domid == 0
"""
    ran(project, code).assert_outcomes(passed=3)


# Others' plugins, with our loop

OURS = """
async def test_on_our_loop({fixture}):
    xen = activations.current()
    near = xen.events.alloc_unbound(xen.domid)
    with near, xen.events.bind_interdomain(xen.domid, near.number) as far:
        far.notify()
        assert await near.wait() == 1
    before = xen.time_ns()
    await {sleep}(3600)
    assert xen.time_ns() - before == 3600 * 10**9
"""


def test_anyios_plugin_runs_tests_on_our_loop(project: pytest.Pytester) -> None:
    project.makeconftest("""
import activations, pytest

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": activations.new_event_loop}
""")
    code = "@pytest.mark.anyio" + OURS.format(fixture="", sleep="anyio.sleep")
    ran(project, code).assert_outcomes(passed=1)


def test_pytest_asyncio_runs_tests_on_our_loop(project: pytest.Pytester) -> None:
    project.makeconftest("""
import activations

def pytest_asyncio_loop_factories(config, item):
    return {"xen": activations.new_event_loop}
""")
    code = "@pytest.mark.asyncio" + OURS.format(fixture="", sleep="asyncio.sleep")
    ran(project, code).assert_outcomes(passed=1)
