"""A bell tells the other end, and minds nothing."""

from __future__ import annotations

import asyncio

import pytest

from activations import Domain, PortClosed
from activations.bell import bell


@pytest.mark.xen
async def test_a_bell_is_heard_at_the_other_end(xen_domain: Domain) -> None:
    events, here = xen_domain.events, xen_domain.domid
    with events.alloc_unbound(here) as mine, events.bind_interdomain(here, mine.number) as other:
        bell(mine)()
        async with asyncio.timeout(10):
            assert await other.wait() == 1


@pytest.mark.xen
async def test_a_bell_minds_no_port_that_was_closed_where_notify_raises(
    xen_domain: Domain,
) -> None:
    port = xen_domain.events.alloc_unbound(xen_domain.domid)
    ring = bell(port)
    port.close()
    ring()
    with pytest.raises(PortClosed):
        port.notify()
