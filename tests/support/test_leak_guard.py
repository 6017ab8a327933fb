"""The guard itself: whatever is left behind fails a test under this project's rules.

The leaky tests below run in a pytest of their own, with the real conftest and configuration.
"""

from __future__ import annotations

import re

import pytest

from support.places import HOME, TESTS

pytest_plugins = ["pytester"]


LEAKY = """
    import asyncio, os, socket
    import activations
    from xen_sim import Machine

    async def tidy(xen):
        with xen.events.alloc_unbound(0), xen.grants.share(0), socket.socket():
            await asyncio.sleep(1)

    async def leaves_a_port(xen):
        xen.events.alloc_unbound(0)

    async def leaves_a_grant(xen):
        xen.grants.share(0)

    def test_tidy():
        activations.run(tidy)

    def test_port():
        activations.run(leaves_a_port)

    def test_port_of_a_booted_domain():
        machine = Machine()
        machine.boot("guest", leaves_a_port)
        machine.boot("dom0", tidy)
        machine.run()

    def test_grant():
        activations.run(leaves_a_grant)

    def test_task():
        loop = activations.new_event_loop()
        task = loop.create_task(asyncio.sleep(1))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_loop():
        activations.new_event_loop()

    def test_descriptor():
        os.open("/dev/null", os.O_RDONLY)

    def test_socket():
        socket.socket()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyprojecttoml((HOME / "pyproject.toml").read_text())
    return pytester


def test_whatever_is_left_behind_fails_the_test(project: pytest.Pytester) -> None:
    """Ports, grants, tasks, loops, descriptors and sockets do; being tidy does not."""
    project.makepyfile(test_leaky=LEAKY)
    said = str(project.runpytest_subprocess("test_leaky.py").stdout)
    blamed = set(re.findall(r"^(?:FAILED|ERROR) test_leaky.py::(\w+)", said, re.MULTILINE))
    assert blamed == set(re.findall(r"def (test_\w+)", LEAKY)) - {"test_tidy"}


def test_a_test_on_a_real_xen_that_the_test_command_would_not_find_is_refused(
    project: pytest.Pytester,
) -> None:
    """side_by_side.py looks for them by the word."""
    project.makepyfile(marks="from pytest import mark\nREAL = mark.lab\n")
    project.makepyfile(test_real="from marks import REAL\n@REAL\ndef test_it(): pass\n")
    said = str(project.runpytest_subprocess("test_real.py").stderr)
    assert "it has to say mark.lab" in said
