"""Where oxenstored does other than xenstored, each difference by its name.

Both keep to the protocol; a program that wants to run on either expects neither's way.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable
from contextlib import AsyncExitStack

from patience import patience

from activations import Domain, Scenario
from activations.store import StoreError

AT = "/tool/activations-ocaml"
PATIENCE = patience(30)
"""Seconds a rule waits for what should come."""


async def refusal(attempt: Awaitable[object]) -> StoreError:
    """The error that this must raise."""
    try:
        outcome = await attempt
    except StoreError as error:
        return error
    raise AssertionError(f"expected a refusal, got {outcome!r}")


merging = Scenario("what_a_transaction_has_not_read_may_change_meanwhile")
"""oxenstored does the transaction's writes again on the tree as it is now; xenstored: EAGAIN."""


@merging.domain("dom0")
async def merge(xen: Domain) -> None:
    await xen.store.write(f"{AT}/a", "1")
    try:
        async with xen.store.transaction() as t:
            await t.write(f"{AT}/a", "2")
            await xen.store.write(f"{AT}/a", "3")
        assert await xen.store.read(f"{AT}/a") == "2"
    finally:
        await xen.store.rm(AT)


removing = Scenario("a_removal_is_told_to_who_waits_for_a_node_below_that_never_was")
"""xenstored tells only of nodes that were there."""


@removing.domain("dom0")
async def remove(xen: Domain) -> None:
    store = xen.store
    await store.mkdir(f"{AT}/a")
    async with asyncio.timeout(PATIENCE), store.watch(f"{AT}/a/never") as events:
        assert await anext(events) == f"{AT}/a/never"
        await store.rm(AT)
        assert await anext(events) == f"{AT}/a/never"


listing = Scenario("a_listing_is_in_alphabetical_order_and_comes_whole")
"""Over the socket in one message of any length; xenstored's are in the order of creation."""


@listing.domain("dom0")
async def list_names(xen: Domain) -> None:
    names = [f"name-of-some-length-{number:03}" for number in range(300)]
    try:
        for name in reversed(names):
            await xen.store.mkdir(f"{AT}/{name}")
        assert await xen.store.list(AT) == names
    finally:
        await xen.store.rm(AT)


sizes = Scenario("a_value_has_2048_bytes_at_most_dom0s_too")
"""xenstored: a whole message of dom0's."""


@sizes.domain("dom0")
async def write_long(xen: Domain) -> None:
    await xen.store.write("activations-long", "x" * 2048)
    error = await refusal(xen.store.write("activations-long", "x" * 2049))
    assert error.errno == errno.E2BIG, error
    await xen.store.rm("activations-long")


guests = Scenario("what_guests_are_told")


@guests.domain("dom0")
async def host(xen: Domain) -> None:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}"
    for number in range(200):
        await xen.store.mkdir(f"{AT}/long/a-name-of-some-length-{number}")
    await xen.store.set_perms(f"{AT}/long", "n0", f"r{guest}")
    await xen.store.mkdir(f"{AT}/closed")
    await xen.store.set_perms(f"{AT}/closed", "n0")
    await xen.store.mkdir(f"{AT}/letters")
    await xen.store.set_perms(f"{AT}/letters", "n0", f"w{guest}")
    await xen.store.write(f"{home}/data/begin", "1")
    await xen.store.wait_for(f"{home}/data/done")
    owner, *_ = await xen.store.get_perms(f"{AT}/letters/mine")
    await xen.store.rm(AT)
    assert owner.domid == 0, "what a guest makes in another's folder is that other's"


@guests.domain("guest")
async def asker(xen: Domain) -> None:
    store = xen.store
    await store.wait_for("data/begin")

    error = await refusal(store.list(f"{AT}/long"))
    assert error.errno == errno.E2BIG, "no listing in parts"
    error = await refusal(store.read(f"{AT}/closed/missing"))
    assert error.errno == errno.ENOENT, "xenstored: EACCES, for who may not look"
    await store.rm("new")  # which is not there; xenstored: EACCES, for who may not remove it
    await store.write("data/own", "1")
    error = await refusal(store.set_perms("data/own", "n0"))
    assert error.errno == errno.EACCES, "it may not be given away; xenstored: EPERM"
    await store.write(f"{AT}/letters/mine", "1")
    error = await refusal(store.read(f"{AT}/letters/mine"))
    assert error.errno == errno.EACCES, "a letter box: what was written there cannot be read"

    async with AsyncExitStack() as stack:

        async def begin_many() -> None:
            for _ in range(30):
                await stack.enter_async_context(store.transaction())

        error = await refusal(begin_many())
        assert error.errno == errno.ENOSPC, "the quota, which oxenstored calls EQUOTA"
    await store.write("data/done", "1")
