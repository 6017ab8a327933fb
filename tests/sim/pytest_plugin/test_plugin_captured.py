"""What the domains of an explored test print and log, as the test reads it."""

from __future__ import annotations

import pytest
from support.pytest_project import ran

pytest_plugins = ["pytester"]


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
