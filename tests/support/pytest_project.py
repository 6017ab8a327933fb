"""Tests of a project that uses the plugin for pytest: what they share, and a run of them."""

from __future__ import annotations

import pytest

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


def ran(project: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    project.makepyfile(PROGRAMS + code)
    return project.runpytest_inprocess("-p", "no:cacheprovider", *options)
