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


def test_whatever_is_left_behind_fails_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports, grants, tasks, loops, descriptors and sockets do; being tidy does not."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyprojecttoml((HOME / "pyproject.toml").read_text())
    pytester.makepyfile(test_leaky=LEAKY)
    said = str(pytester.runpytest_subprocess("test_leaky.py").stdout)
    blamed = set(re.findall(r"^(?:FAILED|ERROR) test_leaky.py::(\w+)", said, re.MULTILINE))
    assert blamed == set(re.findall(r"def (test_\w+)", LEAKY)) - {"test_tidy"}
