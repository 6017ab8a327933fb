"""What rules are made with: first of all one that a domain can show by itself, a coroutine
function, as a scenario of dom0 alone, or of a guest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from patience import patience

from activations import Domain, Port, Scenario
from activations.store import Store, StoreError

E = TypeVar("E", bound=Exception)
SCRATCH = "/tool/activations-rules"
PATIENCE = patience(30)
"""Seconds a rule of the store waits for what should come."""


def rule(main: Callable[[Domain], Coroutine[Any, Any, Any]]) -> Scenario:
    scenario = Scenario(main.__name__)
    scenario.domain("dom0")(main)
    return scenario


def guest_rule(main: Callable[[Domain], Coroutine[Any, Any, Any]]) -> Scenario:
    scenario = Scenario(main.__name__)
    scenario.domain("guest")(main)
    return scenario


@contextmanager
def leaves_nothing(xen: Domain) -> Iterator[None]:
    """All ports and grants opened within are closed at the end; the store's port is its own."""
    _ = xen.store
    before = set(xen.events.ports)
    yield
    assert set(xen.events.ports) == before
    assert not xen.grants.open


async def loopback(xen: Domain) -> tuple[Port, Port]:
    """The two ends of a channel from a domain to itself, binding's own event taken."""
    with ExitStack() as undo:
        near = undo.enter_context(xen.events.alloc_unbound(xen.domid))
        far = undo.enter_context(xen.events.bind_interdomain(xen.domid, near.number))
        await far.wait()
        undo.pop_all()
    return near, far


async def refusal(attempt: Awaitable[object], kind: type[E] = StoreError) -> E:
    """The error that this must raise."""
    try:
        outcome = await attempt
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {outcome!r}")


@asynccontextmanager
async def scratch(xen: Domain) -> AsyncIterator[tuple[Store, str]]:
    """dom0's store, and an empty node that nobody else uses."""
    await xen.store.rm(SCRATCH)
    await xen.store.mkdir(SCRATCH)
    try:
        async with asyncio.timeout(PATIENCE):
            yield xen.store, SCRATCH
    finally:
        await xen.store.rm(SCRATCH)
