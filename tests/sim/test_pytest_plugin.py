"""The plugin for pytest, beside those of anyio and pytest-asyncio, in a project of its own."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

PROGRAMS = """
import anyio, asyncio, pytest, unittest, activations


async def client(xen):
    number = int(await xen.store.wait_for("data/port"))
    with xen.events.bind_interdomain(0, number) as port:
        port.notify()


async def serve(xen):
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
        return await port.wait()
"""

IN_A_DOMAIN = """
@pytest.mark.xen(domains={"guest": client})
async def test_in_a_domain(xen_domain):
    assert activations.current() is xen_domain
    assert await serve(xen_domain) == 1
"""

RACE = """
async def late(xen):
    await xen.store.write("data/late", "")


@pytest.mark.xen(explore=200, domains={"guest": late})
async def test_who_is_first(xen_domain):
    assert not await xen_domain.store.exists("/local/domain/1/data/late")
"""
"""dom0 is, in the ordinary course."""


ONE_BACKEND = """
import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
"""Whatever else is installed here: anyio runs a test once more on trio, where that is."""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a configuration of its own, and no options from outside."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("""
[pytest]
addopts = --strict-markers
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:Unknown config option. asyncio:pytest.PytestConfigWarning
""")
    return pytester


def ran(project: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    project.makepyfile(PROGRAMS + code)
    return project.runpytest_inprocess("-p", "no:cacheprovider", *options)


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


def test_a_failure_of_an_explored_test_has_its_token_and_the_seed_of_the_search(
    project: pytest.Pytester,
) -> None:
    said = str(ran(project, RACE, "--xen-seed", "5").stdout)
    assert "searched with seed 5" in said
    found = re.search(r'pytest "(\S+)" --xen-replay (\S+)', said)
    assert found is not None
    again = project.runpytest_inprocess(found[1], "--xen-replay", found[2])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E *assert not*"])


def test_explore_on_the_command_line_overrules_the_mark(project: pytest.Pytester) -> None:
    ran(project, RACE, "--xen-explore", "0").assert_outcomes(passed=1)
    plain = RACE.replace("explore=200, ", "")
    ran(project, plain).assert_outcomes(passed=1)
    ran(project, plain, "--xen-explore", "200").assert_outcomes(failed=1)


def test_a_token_of_a_test_that_the_command_line_had_explored_brings_its_failure_back(
    project: pytest.Pytester,
) -> None:
    plain = RACE.replace("explore=200, ", "")
    said = str(ran(project, plain, "--xen-explore", "200").stdout)
    found = re.search(r'pytest "(\S+)" --xen-replay (\S+)', said)
    assert found is not None
    again = project.runpytest_inprocess(found[1], "--xen-replay", found[2])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E *assert not*"])


def test_a_methods_mark_says_what_it_says_and_its_classs_the_rest(
    project: pytest.Pytester,
) -> None:
    of_class = """
@pytest.mark.xen(explore=200, seed=3)
class TestIt:
    @pytest.mark.xen(domains={"guest": late}, seed=5)
"""
    code = RACE.replace('@pytest.mark.xen(explore=200, domains={"guest": late})\n', of_class)
    code = code.replace("async def test_who_is_first(", "    async def test_who_is_first(self, ")
    code = code.replace("    assert not await", "        assert not await")
    said = ran(project, code)
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["*; searched with seed 5"])


def test_an_explored_test_has_as_many_runs_as_it_says(project: pytest.Pytester) -> None:
    code = """
ran = []


async def busy(xen):
    for _ in range(5):
        await xen.store.write("data/busy", "")


@pytest.mark.xen(explore=7, domains={"guest": busy})
async def test_in_a_domain(xen_domain):
    ran.append("a domain")
    await busy(xen_domain)


@pytest.mark.xen(explore=9)
def test_on_a_machine(xen_machine):
    ran.append("a machine")
    xen_machine.boot("dom0", busy)
    xen_machine.boot("guest", busy)
    xen_machine.run()


def test_so_often():
    twice = 2  # by these it is found out whether it is the same every time
    assert [ran.count("a domain"), ran.count("a machine")] == [7 + twice, 9 + twice]
"""
    ran(project, code).assert_outcomes(passed=3)


WAYS_TO_FAIL = {
    "pytest.fail": "if came: pytest.fail('late came first')",
    "SystemExit": "if came: raise SystemExit('late came first')",
    "pytest.raises": "with pytest.raises(ValueError): int('0' if came else 'none')",
    "in a task group": (
        "async with asyncio.TaskGroup() as group: group.create_task(fails_if(came))"
    ),
}


@pytest.mark.parametrize("how", WAYS_TO_FAIL)
def test_however_an_explored_test_fails_its_failure_has_a_token(
    project: pytest.Pytester, how: str
) -> None:
    code = f"""
async def fails_if(came):
    if came:
        pytest.fail("late came first")


@pytest.mark.xen(explore=200, domains={{"guest": late}})
async def test_who_is_first(xen_domain):
    came = await xen_domain.store.exists("/local/domain/1/data/late")
    {WAYS_TO_FAIL[how]}
"""
    said = ran(project, RACE.partition("@pytest")[0] + code)
    said.assert_outcomes(failed=1)
    found = re.search(r'pytest "(\S+)" --xen-replay (\S+)', str(said.stdout))
    assert found is not None
    if how != "in a task group":
        said.stdout.fnmatch_lines(["  in test_who_is_first, *"])
    project.runpytest_inprocess(found[1], "--xen-replay", found[2]).assert_outcomes(failed=1)


def test_a_time_out_ends_a_search_and_the_run_that_it_struck_is_not_made_again(
    project: pytest.Pytester,
) -> None:
    code = """
async def turns_for_ever(xen):
    while True:
        pass


@pytest.mark.timeout(1, method="signal")
@pytest.mark.xen(explore=5)
def test_it(xen_machine):
    xen_machine.boot("dom0", turns_for_ever)
    xen_machine.run()
"""
    said = ran(project, code)
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["*Timeout*"])
    said.stdout.no_fnmatch_line("*--xen-replay*")


@pytest.mark.parametrize(("how", "outcome"), [("skip", "skipped"), ("xfail", "xfailed")])
def test_what_is_no_failure_ends_a_search_with_the_outcome_it_is(
    project: pytest.Pytester, how: str, outcome: str
) -> None:
    code = RACE.replace("    assert not await", "    if await") + f"        pytest.{how}('late')"
    code = code.replace('data/late")\n ', 'data/late"):\n ')
    ran(project, code).assert_outcomes(**{outcome: 1})


@pytest.mark.parametrize(
    ("raises", "outcome"), [("AssertionError", "xfailed"), ("(KeyError, OSError)", "failed")]
)
def test_an_explored_test_is_expected_to_raise_what_its_program_raises(
    project: pytest.Pytester, raises: str, outcome: str
) -> None:
    code = RACE.replace(
        "@pytest.mark.xen(", f"@pytest.mark.xfail(raises={raises})\n@pytest.mark.xen("
    )
    ran(project, code).assert_outcomes(**{outcome: 1})


def test_an_explored_test_is_searched_by_several_processes(project: pytest.Pytester) -> None:
    project.makepyfile(PROGRAMS + RACE.replace("explore=200", "explore=200, jobs=2"))
    said = project.runpytest_subprocess("-p", "no:cacheprovider")
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["*--xen-replay*"])


def test_a_search_whose_workers_died_is_not_one_that_found_nothing(
    project: pytest.Pytester,
) -> None:
    code = """
import os

HERE = os.getpid()


@pytest.mark.xen(explore=20, jobs=2)
def test_it(xen_machine):
    if os.getpid() != HERE:
        os._exit(1)
    xen_machine.boot("dom0", serve)
    xen_machine.boot("guest", client)
    xen_machine.run()
"""
    project.makepyfile(PROGRAMS + code)
    said = project.runpytest_subprocess("-p", "no:cacheprovider")
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["*3 workers died: *"])


def test_what_was_found_without_an_error_is_pytests_own_failure(project: pytest.Pytester) -> None:
    code = """
from activations.promises import sometimes


async def says(xen):
    sometimes(False, "never")


@pytest.mark.xfail(raises=pytest.fail.Exception)
@pytest.mark.xen(explore=5)
def test_it(xen_machine):
    xen_machine.boot("dom0", says)
    xen_machine.run()
"""
    ran(project, code).assert_outcomes(xfailed=1)


LATE = """
async def dom0(xen):
    await asyncio.sleep(1)


def guest(xen):
    xen.xen.yield_()


@pytest.mark.xen(explore=2{late})
def test_it(xen_machine):
    lives = xen_machine.boot("dom0", dom0), xen_machine.plain("guest", guest)
    assert [life.vcpu.cpu.late for life in lives] == [{steps}] * 2
    xen_machine.run()
"""


@pytest.mark.parametrize(("late", "steps"), [(", late=3", 3), ("", 0)])
def test_upcalls_of_an_explored_test_are_as_late_as_its_mark_says(
    project: pytest.Pytester, late: str, steps: int
) -> None:
    ran(project, LATE.format(late=late, steps=steps)).assert_outcomes(passed=1)


def test_a_token_is_for_as_late_as_the_mark_says(project: pytest.Pytester) -> None:
    said = str(ran(project, RACE.replace("explore=200", "explore=200, late=2")).stdout)
    found = re.search(r'pytest "(\S+)" --xen-replay (\S+)', said)
    assert found is not None
    project.runpytest_inprocess(found[1], "--xen-replay", found[2]).assert_outcomes(failed=1)
    other = ran(
        project, RACE.replace("explore=200", "explore=200, late=1"), "--xen-replay", found[2]
    )
    other.stdout.fnmatch_lines(["*TokenError*another program*"])


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_an_explored_test_reads_what_its_domains_print(
    project: pytest.Pytester, capture: str
) -> None:
    code = f"""
async def says(xen):
    print("hello")


@pytest.mark.xen(explore=5)
def test_it(xen_machine, {capture}):
    xen_machine.boot("dom0", says)
    xen_machine.run()
    assert {capture}.readouterr().out == "hello\\n"
"""
    ran(project, code).assert_outcomes(passed=1)


def test_what_an_explored_test_reads_of_logs_is_of_its_run(
    project: pytest.Pytester,
) -> None:
    code = """
import logging


async def says(xen):
    print("hello")
    logging.getLogger("says").warning("hello")


@pytest.mark.xen(explore=5)
def test_it(xen_machine, caplog):
    xen_machine.boot("dom0", says)
    xen_machine.run()
    assert len(caplog.records) == 1


@pytest.mark.xen(explore=5)
def test_that_does_not_read_it_all(xen_machine, capsys):
    xen_machine.boot("dom0", says)
    assert not capsys.readouterr().out
    xen_machine.run()
"""
    ran(project, code).assert_outcomes(passed=2)


def test_what_is_not_a_token_is_said_before_any_test_runs(project: pytest.Pytester) -> None:
    said = ran(project, RACE, "--xen-replay", "garbage")
    assert said.ret == pytest.ExitCode.USAGE_ERROR
    said.stderr.fnmatch_lines(["ERROR: --xen-replay: 'garbage' is not a token: *"])


# Machines of fixtures

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


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@pytest.mark.xen(exlore=1)\ndef test_it(xen_machine): ...", "xen() knows no exlore"),
        ("@pytest.mark.xen\ndef test_it(): ...", "takes `xen_machine`"),
        ("@pytest.mark.xen\ndef test_it(xen_domain): ...", "write `async def`"),
        (
            "@pytest.mark.xen(domains={'guest': client})\ndef test_it(xen_machine): ...",
            "a plain one boots its own",
        ),
        (
            "@pytest.mark.asyncio\nasync def test_it(xen_domain): ...",
            "`xen_domain` is for tests marked xen",
        ),
        (
            "@pytest.fixture\ndef guest(xen_domain): ...\n"
            "@pytest.mark.xen\nasync def test_it(guest): ...",
            "a fixture takes `xen_domain`",
        ),
        (
            "@pytest.fixture\ndef booted(xen_machine): ...\n"
            "@pytest.mark.xen(explore=9)\ndef test_it(booted): ...",
            "takes `xen_machine` itself",
        ),
        (
            "@pytest.fixture\ndef booted(xen_machine): ...\n"
            "@pytest.mark.xen(explore=9)\nasync def test_it(booted): ...",
            "no fixture of its does",
        ),
        (
            "@pytest.fixture\ndef guest(xen_domain): ...\n"
            "@pytest.mark.xen\nasync def test_it(guest, xen_domain): ...",
            "a fixture takes `xen_domain`",
        ),
        ("@pytest.mark.xen(200)\ndef test_it(xen_machine): ...", "by name: xen(explore=200)"),
        ("@pytest.mark.xen(explore=0)\ndef test_it(xen_machine): ...", "explore=0 is not a number"),
        (
            "@pytest.mark.xen(explore=-5)\ndef test_it(xen_machine): ...",
            "explore=-5 is not a number",
        ),
        (
            "@pytest.mark.xen(late=-1)\ndef test_it(xen_machine): ...",
            "late=-1 is not a number",
        ),
        ("@pytest.mark.xen(late='2')\ndef test_it(xen_machine): ...", "give 0 or more"),
        ("@pytest.mark.xen(jobs=0)\ndef test_it(xen_machine): ...", "jobs=0 is not a number of p"),
        ("@pytest.mark.xen(limit=.5)\ndef test_it(xen_machine): ...", "limit=0.5 is not a number"),
        ("@pytest.mark.xen(explore=True)\ndef test_it(xen_machine): ...", "explore=True is not a"),
        (
            "@pytest.mark.xen(domains=[client])\nasync def test_it(xen_domain): ...",
            "{'guest': client}",
        ),
        (
            "@pytest.mark.xen(domains={'dom0': client})\nasync def test_it(xen_domain): ...",
            "what runs beside dom0",
        ),
        (
            "class TestIt(unittest.IsolatedAsyncioTestCase):\n"
            "    @pytest.mark.xen\n    async def test_it(self): ...",
            "unittest runs its coroutine functions",
        ),
        (
            "import hypothesis\n@hypothesis.given(number=hypothesis.strategies.integers())\n"
            "@pytest.mark.xen\nasync def test_it(xen_domain, number): ...",
            "each needs a machine of its own",
        ),
        ("@pytest.mark.xen(seed='7')\ndef test_it(xen_machine): ...", "seed='7' is not a whole"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(
    project: pytest.Pytester, code: str, words: str
) -> None:
    said = ran(project, code)
    assert said.ret == pytest.ExitCode.USAGE_ERROR
    assert words in str(said.stderr)


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
