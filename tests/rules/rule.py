"""A rule that one domain can show by itself: a coroutine function, as a scenario of dom0 alone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from activations import Domain, Port, Scenario


def rule(main: Callable[[Domain], Coroutine[Any, Any, Any]]) -> Scenario:
    scenario = Scenario(main.__name__)
    scenario.domain("dom0")(main)
    return scenario


async def loopback(xen: Domain) -> tuple[Port, Port]:
    """The two ends of a channel from a domain to itself, binding's own event taken."""
    near = xen.events.alloc_unbound(xen.domid)
    far = xen.events.bind_interdomain(xen.domid, near.number)
    await far.wait()
    return near, far
