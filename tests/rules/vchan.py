"""What holds of vchan between two domains on a simulated Xen and on a real one alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from random import Random

from anyio import BrokenResourceError, EndOfStream
from patience import patience
from rule import leaves_nothing, rule

from activations import Domain, Scenario, vchan
from activations.abi.vchan import CLI_LIVE, CLI_NOTIFY, LEFT_PROD, ORDERS_AT
from activations.vchan import VchanStream

KEY = "data/vchan"
LESS, MUCH = 30_011, 1 << 20
"""Bytes each way; the former is enough to go around the smallest ring thirty times."""
PATIENCE = patience(240)

Serve = Callable[[Domain, VchanStream], Awaitable[object]]


def two(
    name: str, serve: Serve, call: Serve, *, left: int = 1 << 14, right: int = 1 << 14
) -> Scenario:
    """A scenario of a vchan from a guest to dom0, and what each does with its stream. The ends
    are closed afterwards, and nothing may be left open."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        path = f"/local/domain/{guest}/{KEY}"
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                async with vchan.listen(xen, guest, path, left=left, right=right) as listener:
                    stream = await listener.accept()
                async with stream:
                    await serve(xen, stream)

    async def guest(xen: Domain) -> None:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE), await vchan.connect(xen, 0, KEY) as stream:
                await call(xen, stream)

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


def noise(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


async def received(stream: VchanStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return bytes(data)


async def sum_of(stream: VchanStream, size: int) -> str:
    return sha256(await received(stream, size)).hexdigest()


# Bytes, both ways at once, through rings in every place


def exchange(own: int, others: int, size: int) -> Serve:
    async def use(xen: Domain, stream: VchanStream) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.send(noise(own, size)))
            assert await sum_of(stream, size) == sha256(noise(others, size)).hexdigest()
        await stream.send(b".")  # so that neither closes before the other has all
        assert await stream.receive() == b"."

    return use


def both_ways(what: str, size: int, left_order: int, right_order: int) -> Scenario:
    return two(
        f"{what}_each_way_by_orders_{left_order}_and_{right_order}",
        exchange(1, 2, size),
        exchange(2, 1, size),
        left=1 << left_order,
        right=1 << right_order,
    )


in_the_page = both_ways("30_kilobytes", LESS, 10, 11)
in_the_page_turned = both_ways("30_kilobytes", LESS, 11, 10)
one_on_a_page = both_ways("30_kilobytes", LESS, 11, 12)
other_on_a_page = both_ways("30_kilobytes", LESS, 12, 11)
on_pages = both_ways("30_kilobytes", LESS, 12, 13)
in_the_page_long = both_ways("long: a_mebibyte", MUCH, 10, 11)
in_the_page_turned_long = both_ways("long: a_mebibyte", MUCH, 11, 10)
one_on_a_page_long = both_ways("long: a_mebibyte", MUCH, 11, 12)
other_on_a_page_long = both_ways("long: a_mebibyte", MUCH, 12, 11)
on_pages_long = both_ways("long: a_mebibyte", MUCH, 12, 13)


# Small pieces


async def count_up(xen: Domain, stream: VchanStream) -> None:
    for number in range(300):
        await stream.send(bytes([number & 0xFF]))
    assert await stream.receive() == b"done"


async def count_along(xen: Domain, stream: VchanStream) -> None:
    assert await received(stream, 300) == bytes(number & 0xFF for number in range(300))
    await stream.send(b"done")


one_byte_at_a_time = two("one_byte_at_a_time", count_up, count_along, left=1024, right=1024)


async def echo(xen: Domain, stream: VchanStream) -> None:
    try:
        while True:
            await stream.send(await stream.receive())
    except EndOfStream:
        pass


async def call_echo(xen: Domain, stream: VchanStream) -> None:
    for number in range(50):
        said = f"message {number}".encode()
        await stream.send(said)
        assert await received(stream, len(said)) == said


round_trips = two("round_trips_wait_for_each_other", echo, call_echo)


# Ends


async def say_and_go(xen: Domain, stream: VchanStream) -> None:
    await stream.send(b"that was all")


async def hear_all_then_the_end(xen: Domain, stream: VchanStream) -> None:
    assert await received(stream, 12) == b"that was all"
    for _ in range(2):
        try:
            await stream.receive()
        except EndOfStream:
            continue
        raise AssertionError("more came")
    try:
        await stream.send(b"?")
    except BrokenResourceError:
        return
    raise AssertionError("sent to nobody")


server_closes = two("the_server_closes_first", say_and_go, hear_all_then_the_end)
client_closes = two("the_client_closes_first", hear_all_then_the_end, say_and_go)


async def take_a_little_and_go(xen: Domain, stream: VchanStream) -> None:
    await received(stream, 100)


async def send_without_end(xen: Domain, stream: VchanStream) -> None:
    try:
        while True:
            await stream.send(bytes(100_000))
    except BrokenResourceError:
        return


server_lets_down = two(
    "a_sender_learns_that_the_server_went", take_a_little_and_go, send_without_end
)
client_lets_down = two(
    "a_sender_learns_that_the_client_went", send_without_end, take_a_little_and_go
)


# Peers that are not ours: raw pages


async def raw_client(xen: Domain, do: Callable[[memoryview], None]) -> None:
    """Connect by hand, do something to the control page, and die without a word."""
    number = int(await xen.store.wait_for(f"{KEY}/event-channel"))
    ref = int(await xen.store.read(f"{KEY}/ring-ref"))
    with (
        xen.events.bind_interdomain(0, number) as port,
        xen.grants.map(0, [ref]) as control,
    ):
        control.notify_on_close(clear_byte=CLI_LIVE, port=port.number)
        control.memory[CLI_LIVE] = 1
        do(control.memory)
        port.notify()
        await xen.store.wait_for("data/die")


def against(name: str, serve: Serve, do: Callable[[memoryview], None]) -> Scenario:
    """A scenario in which the guest's client is made by hand; it dies when `serve` is told."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        home = f"/local/domain/{guest}"
        async with asyncio.timeout(PATIENCE):
            path = f"{home}/{KEY}"
            async with vchan.listen(xen, guest, path, left=1024, right=1024) as listener:
                stream = await listener.accept()
            async with stream:
                await serve(xen, stream)
                await xen.store.write(f"{home}/data/die", "1")

    async def guest(xen: Domain) -> None:
        await raw_client(xen, do)

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


def nothing(page: memoryview) -> None:
    pass


async def sees_death(xen: Domain, stream: VchanStream) -> None:
    async def hear_the_end() -> None:
        with suppress(EndOfStream):
            await stream.receive()
            raise AssertionError("nothing was to come")

    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(hear_the_end()),
            group.create_task(send_without_end(xen, stream)),
        ]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await xen.store.write(f"/local/domain/{stream.domid}/data/die", "1")


async def names_the_fault(xen: Domain, stream: VchanStream) -> None:
    fault = ""
    try:
        await stream.receive()
    except vchan.VchanError as error:
        fault = str(error)
    assert "1025 bytes" in fault


def overrun(page: memoryview) -> None:
    page[LEFT_PROD : LEFT_PROD + 4] = (1025).to_bytes(4, "little")


async def is_unmoved(xen: Domain, stream: VchanStream) -> None:
    """The server knows where its rings lie, and has all its requests forgotten."""
    await stream.send(b"hello")
    assert bytes(await received(stream, 3)) == b"\0\0\0"


def rearrange(page: memoryview) -> None:
    page[ORDERS_AT : ORDERS_AT + 4] = b"\xff\xff\xff\xff"
    page[CLI_NOTIFY] = 0xFF
    page[LEFT_PROD] = 3


dies = against("a_client_that_dies_ends_both_directions", sees_death, nothing)
overruns = against("indices_too_far_apart_are_an_error_with_a_name", names_the_fault, overrun)
rearranges = against("a_client_that_rewrites_the_orders_changes_nothing", is_unmoved, rearrange)


# The listener


again = Scenario("a_listener_serves_one_client_after_another")


@again.domain("dom0")
async def serve_three(xen: Domain) -> None:
    guest = await xen.find("guest")
    path = f"/local/domain/{guest}/{KEY}"
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE), vchan.listen(xen, guest, path) as listener:
            for number in range(3):
                async with await listener.accept() as stream:
                    await stream.send(b"%d" % number)
                    assert await stream.receive() == b"ok"
    assert not await xen.store.exists(f"{path}/ring-ref")


@again.domain("guest")
async def call_three(xen: Domain) -> None:
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE):
            for number in range(3):
                async with await vchan.connect(xen, 0, KEY) as stream:
                    assert await stream.receive() == b"%d" % number
                    await stream.send(b"ok")


@rule
async def an_offer_nobody_takes_up_is_taken_back(xen: Domain) -> None:
    path = f"/local/domain/0/{KEY}"
    guest = 7
    with leaves_nothing(xen):
        async with vchan.listen(xen, guest, path) as listener:
            permissions = await xen.store.get_perms(f"{path}/ring-ref")
            assert [str(each) for each in permissions] == ["n0", "r7"]
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await listener.accept()
    assert not await xen.store.exists(f"{path}/ring-ref")
