"""A test that is explored: how many runs it has, how it fails, what brings the failure back."""

from __future__ import annotations

import re

import pytest
from support.pytest_project import PROGRAMS, RACE, ran

pytest_plugins = ["pytester"]


def named(said: pytest.RunResult) -> tuple[str, str]:
    """The test and the token of the command that a failure names."""
    found = re.search(r'pytest "(\S+)" --xen-replay (\S+)', str(said.stdout))
    assert found is not None
    return found[1], found[2]


def brought_back(project: pytest.Pytester, said: pytest.RunResult) -> pytest.RunResult:
    """The run of that command."""
    test, token = named(said)
    return project.runpytest_inprocess(test, "--xen-replay", token)


def test_a_failure_of_an_explored_test_has_its_token_and_the_seed_of_the_search(
    project: pytest.Pytester,
) -> None:
    said = ran(project, RACE, "--xen-seed", "5")
    said.stdout.fnmatch_lines(["*searched with seed 5"])
    again = brought_back(project, said)
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
    said = ran(project, plain, "--xen-explore", "200")
    again = brought_back(project, said)
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
    if how != "in a task group":
        said.stdout.fnmatch_lines(["  in test_who_is_first, *"])
    brought_back(project, said).assert_outcomes(failed=1)


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
    said = ran(project, RACE.replace("explore=200", "explore=200, late=2"))
    brought_back(project, said).assert_outcomes(failed=1)
    late_by_one = RACE.replace("explore=200", "explore=200, late=1")
    other = ran(project, late_by_one, "--xen-replay", named(said)[1])
    other.stdout.fnmatch_lines(["*TokenError*another program*"])


def test_what_is_not_a_token_is_said_before_any_test_runs(project: pytest.Pytester) -> None:
    said = ran(project, RACE, "--xen-replay", "garbage")
    assert said.ret == pytest.ExitCode.USAGE_ERROR
    said.stderr.fnmatch_lines(["ERROR: --xen-replay: 'garbage' is not a token: *"])
