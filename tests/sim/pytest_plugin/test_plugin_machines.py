"""The fixture `xen_machine`, in tests and in their fixtures; what is said of a failure on it."""

from __future__ import annotations

import re

import pytest
from support.pytest_project import ran

pytest_plugins = ["pytester"]

BOOTED = """
@pytest.fixture
def booted(xen_machine):
    xen_machine.boot("guest", client)
    return xen_machine
"""


def test_a_coroutine_function_is_dom0_of_the_machine_that_its_fixture_takes(
    project: pytest.Pytester,
) -> None:
    code = """
@pytest.mark.xen
async def test_it(booted, xen_domain):
    assert xen_domain.loop in [life.loop for life in booted.lives]
    assert await serve(xen_domain) == 1


@pytest.mark.xen
async def test_of_one_that_is_asked_for_by_name(request, xen_domain):
    assert request.getfixturevalue("xen_machine").lives[0].loop is xen_domain.loop
"""
    ran(project, BOOTED + code).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "code",
    [
        "@pytest.mark.xen\nasync def test_it(booted, xen_domain):\n    assert 0",
        "def test_it(booted):\n    assert 0",
        "def test_it(booted, xen_machine):\n    assert 0",
    ],
)
def test_a_test_on_the_machine_of_a_fixture_is_explored_by_nobody(
    project: pytest.Pytester, code: str
) -> None:
    """The fixture has had its one way with the machine: nor is a search advised."""
    said = ran(project, BOOTED + code, "--xen-explore", "50")
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["E *assert 0"])
    said.stdout.fnmatch_lines(["every domain ran in turn", "*--xen-seed 1 *"])
    said.stdout.no_fnmatch_line("*--xen-explore 1000*")


def test_a_machine_that_no_test_came_to_run_is_given_back(project: pytest.Pytester) -> None:
    code = """
import gc


def guest(guest):
    guest.alloc_unbound(0)


def test_it(xen_machine):
    xen_machine.boot("dom0", client)
    xen_machine.plain("guest", guest)
    assert 0


def test_nothing_is_left():
    gc.collect()
    assert not [each for each in gc.get_objects()
                if isinstance(each, activations.EventLoop) and not each.is_closed()]
"""
    ran(project, code).assert_outcomes(failed=1, passed=1)


NEVER_RAN = """
{mark}
def test_it({takes}):
    {takes}.boot("dom0", serve)
    {takes}.boot("guest", client)
    assert {holds}
"""
BOOTED_BEFORE = """
@pytest.fixture
def machine(xen_machine):
    return xen_machine
"""


@pytest.mark.parametrize(
    ("mark", "takes"),
    [("", "xen_machine"), ("", "machine"), ("@pytest.mark.xen(explore=5)", "xen_machine")],
    ids=["its own", "of a fixture", "explored"],
)
def test_who_boots_domains_and_never_runs_them_is_warned(
    project: pytest.Pytester, mark: str, takes: str
) -> None:
    test = BOOTED_BEFORE + NEVER_RAN.format(mark=mark, takes=takes, holds=True)
    said = ran(project, test, "-W", "default")
    said.assert_outcomes(passed=1, warnings=1)
    said.stdout.fnmatch_lines(["*dom0, guest booted and never ran: *"])


@pytest.mark.parametrize("mark", ["", "@pytest.mark.xen(explore=5)"], ids=["", "explored"])
def test_a_test_that_fails_before_it_runs_them_is_not(project: pytest.Pytester, mark: str) -> None:
    test = NEVER_RAN.format(mark=mark, takes="xen_machine", holds=False)
    ran(project, test, "-W", "default").assert_outcomes(failed=1, warnings=0)


def test_what_fails_before_the_test_and_after_it_says_its_schedule_too(
    project: pytest.Pytester,
) -> None:
    code = """
@pytest.fixture
def before(xen_machine):
    assert 0


@pytest.fixture
def after(xen_machine):
    yield
    assert 0


def test_before(before): ...
def test_after(after): ...
"""
    said = ran(project, code)
    said.assert_outcomes(errors=2, passed=1)
    said.stdout.fnmatch_lines(["every domain ran in turn"] * 2)


def test_a_doctest_beside_a_fixture_that_takes_a_machine_fails_as_any_other(
    project: pytest.Pytester,
) -> None:
    project.makeconftest("""
import pytest

@pytest.fixture(autouse=True)
def around(xen_machine):
    return xen_machine
""")
    project.makepyfile(said='def one():\n    """\n    >>> one()\n    2\n    """\n    return 1\n')
    said = project.runpytest_inprocess("-p", "no:cacheprovider", "--doctest-modules")
    said.assert_outcomes(failed=1)
    said.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_failure_on_a_machine_says_the_seed_of_its_schedule(project: pytest.Pytester) -> None:
    """And the command that it names fails in the same way."""
    code = """
async def late(xen):
    await xen.store.write("data/late", "")


async def early(xen):
    return await xen.store.exists("/local/domain/1/data/late")


def test_who_is_first(xen_machine):
    xen_machine.boot("dom0", early)
    xen_machine.boot("guest", late)
    assert not xen_machine.run()["dom0"]
"""
    seeds = [seed for seed in range(8) if ran(project, code, f"--xen-seed={seed}").ret]
    assert seeds, "some order breaks it"
    assert not ran(project, code).ret, "in turn it is well"
    said = ran(project, code, f"--xen-seed={seeds[0]}")
    said.stdout.fnmatch_lines([f"scheduled by seed {seeds[0]}"])
    named = re.search(r'pytest "(\S+)" (--xen-seed \d+)', str(said.stdout))
    assert named is not None
    again = project.runpytest_inprocess(named[1], *named[2].split())
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E *assert not True", f"scheduled by seed {seeds[0]}"])


def test_a_seed_in_a_mark_holds_for_a_machine_that_a_fixture_takes(
    project: pytest.Pytester,
) -> None:
    code = """
@pytest.fixture
def booted(xen_machine):
    xen_machine.boot("dom0", serve)
    xen_machine.boot("guest", client)
    return xen_machine


@pytest.mark.xen(seed=7)
def test_it(booted):
    assert booted.run()["dom0"] == 2
"""
    ran(project, code).stdout.fnmatch_lines(["scheduled by seed 7"])


def test_a_programs_failure_is_shown_below_the_tests_own_line(project: pytest.Pytester) -> None:
    """Without the way there: the machine's code and asyncio's."""
    project.makepyfile(
        """
        async def guest(xen):
            assert xen.domid == 7

        def test_it(xen_machine):
            xen_machine.boot("guest", guest)
            xen_machine.run()
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_a_programs_*.py:6:*", ">       assert xen.domid == 7"])
    for way in ("*life.py*", "*base_events.py*", "*machine.py:*", "*running.py*"):
        result.stdout.no_fnmatch_line(way)


@pytest.mark.parametrize("own", ["", "filterwarnings = error"])
def test_what_is_left_behind_is_warned_of_though_a_project_asks_for_no_warnings(
    own: str, pytester: pytest.Pytester
) -> None:
    pytester.makeini(f"[pytest]\n{own}")
    pytester.makepyfile(
        """
        async def guest(xen):
            xen.events.alloc_unbound(0)

        def test_it(xen_machine):
            xen_machine.boot("guest", guest)
            xen_machine.run()
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider")
    result.assert_outcomes(**({"failed": 1} if own else {"passed": 1, "warnings": 1}))
    result.stdout.fnmatch_lines(["*LeakWarning: *<Port 2 to domain 0*"])


def test_a_failure_without_a_seed_says_how_to_try_others(project: pytest.Pytester) -> None:
    said = ran(project, "def test_it(xen_machine):\n    assert not xen_machine.run() == {}")
    said.stdout.fnmatch_lines(["every domain ran in turn", "*--xen-seed 1 *"])
