"""The switch, the cable and the queue of frames, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import activations
from activations import Domain
from activations.drivers.net import NicClosed, Switch, SwitchPort, cable, join
from activations.drivers.net.frames import FrameQueue
from activations.drivers.net.switch import AGEING

A, B, C = (bytes([0, 0x16, 0x3E, 0, 0, last]) for last in (1, 2, 3))
ALL = b"\xff" * 6
GROUP = bytes([1, 0, 0x5E, 0, 0, 1])


def frame(to: bytes, by: bytes, data: bytes = b"") -> bytes:
    return to + by + b"\x12\x34" + data


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def on(xen: Domain) -> None:
        await main()

    activations.run(on)


def heard(port: SwitchPort) -> list[bytes]:
    """All that waits at a port."""
    frames = []
    while (each := port.receive_nowait()) is not None:
        frames.append(each)
    return frames


def test_a_frame_for_nobody_known_goes_to_all_others() -> None:
    async def main() -> None:
        switch = Switch()
        ports = [switch.port() for _ in range(3)]
        await ports[0].send(frame(B, A))
        assert [heard(port) for port in ports] == [[], [frame(B, A)], [frame(B, A)]]

    run(main)


def test_a_frame_for_a_known_station_goes_there_alone() -> None:
    async def main() -> None:
        switch = Switch()
        a, b, c = (switch.port() for _ in range(3))
        await b.send(frame(A, B))
        heard(a), heard(c)
        await a.send(frame(B, A))
        assert [heard(port) for port in (a, b, c)] == [[], [frame(B, A)], []]
        assert switch.where(B) is b

    run(main)


@pytest.mark.parametrize("many", [ALL, GROUP])
def test_a_frame_for_many_goes_to_all_others_always(many: bytes) -> None:
    async def main() -> None:
        switch = Switch()
        a, b, c = (switch.port() for _ in range(3))
        for _ in range(2):
            await a.send(frame(many, A))
            assert [len(heard(port)) for port in (a, b, c)] == [0, 1, 1]

    run(main)


def test_a_frame_for_a_station_behind_the_same_port_goes_nowhere() -> None:
    async def main() -> None:
        switch = Switch()
        a, b = switch.port(), switch.port()
        await a.send(frame(ALL, B))
        heard(b)
        await a.send(frame(B, A))
        assert not heard(a)
        assert not heard(b)

    run(main)


def test_a_station_that_moves_is_found_where_it_is() -> None:
    async def main() -> None:
        switch = Switch()
        a, b, c = (switch.port() for _ in range(3))
        for port in (b, c):
            await port.send(frame(ALL, B))
        heard(b), heard(c)
        await a.send(frame(B, A))
        assert [len(heard(port)) for port in (b, c)] == [0, 1]

    run(main)


def test_a_station_that_is_silent_for_long_is_forgotten() -> None:
    async def main() -> None:
        switch = Switch()
        a, b = switch.port(), switch.port()
        await a.send(frame(ALL, A))
        await asyncio.sleep(AGEING - 1)
        assert switch.where(A) is a
        await b.send(frame(A, B))  # to be spoken to does not count
        await asyncio.sleep(1)
        assert switch.where(A) is None
        assert switch.where(B) is b

    run(main)


@pytest.mark.parametrize("nonsense", [b"", bytes(13), frame(A, GROUP), frame(A, ALL)])
def test_a_frame_without_a_proper_sender_is_refused(nonsense: bytes) -> None:
    async def main() -> None:
        switch = Switch()
        a, b = switch.port(), switch.port()
        await a.send(nonsense)
        assert a.refused == 1
        assert not heard(b)

    run(main)


def test_a_guest_that_makes_up_addresses_fills_no_memory() -> None:
    async def main() -> None:
        switch = Switch(addresses=10)
        a, b = switch.port(), switch.port()
        await b.send(frame(ALL, B))
        for number in range(9):
            await a.send(frame(ALL, bytes([2, 0, 0, 0, 0, number])))
        assert switch.where(B) is b
        await a.send(frame(ALL, A))
        assert switch.where(B) is None, "who was silent longest is forgotten first"
        assert switch.where(A) is a

    run(main)


def test_a_receiver_that_sleeps_stands_in_nobody_s_way() -> None:
    async def main() -> None:
        switch = Switch()
        a, sleeper, c = switch.port(), switch.port(capacity=5), switch.port()
        for number in range(100):
            await a.send(frame(ALL, A, bytes([number])))
        assert len(heard(c)) == 100
        assert [each[-1] for each in heard(sleeper)] == [0, 1, 2, 3, 4], "the first, in order"
        assert sleeper.incoming.dropped == 95

    run(main)


def test_a_port_that_is_closed_is_told_and_forgotten() -> None:
    async def main() -> None:
        switch = Switch()
        a, b = switch.port("a"), switch.port("b")
        await b.send(frame(ALL, B))
        waiting = asyncio.create_task(b.receive())
        await asyncio.sleep(0)
        b.close()
        b.close()
        with pytest.raises(NicClosed, match="b was taken out of its switch"):
            await waiting
        assert switch.where(B) is None
        assert switch.ports == [a]

    run(main)


def test_two_switches_joined_are_one_network() -> None:
    async def main() -> None:
        left, right = Switch(), Switch()
        a, b = left.port(), right.port()
        trunk = asyncio.create_task(join(left.port(), right.port()))
        await a.send(frame(B, A))
        assert await b.receive() == frame(B, A)
        await b.send(frame(A, B))
        assert await a.receive() == frame(A, B)
        trunk.cancel()
        await asyncio.wait([trunk])

    run(main)


# The cable


def test_a_cable_loses_nothing_and_makes_a_fast_sender_wait() -> None:
    async def main() -> None:
        near, far = cable(capacity=4)

        async def send() -> None:
            for number in range(100):
                await near.send(bytes([number]))

        sending = asyncio.create_task(send())
        await asyncio.sleep(1)
        assert not sending.done()
        assert [(await far.receive())[0] for _ in range(100)] == list(range(100))
        await sending
        assert far.receive_nowait() is None

    run(main)


def test_pulling_a_cable_out_tells_both_ends() -> None:
    async def main() -> None:
        near, far = cable(capacity=1)
        await near.send(b"full")
        waiting = [asyncio.create_task(near.send(b"more")), asyncio.create_task(near.receive())]
        await asyncio.sleep(1)
        near.close()
        for each in waiting:
            with pytest.raises(NicClosed, match="pulled out"):
                await each
        assert await far.receive() == b"full", "what was sent arrives"
        with pytest.raises(NicClosed):
            await far.receive()

    run(main)


def test_a_queue_has_room_for_one_frame_at_least() -> None:
    with pytest.raises(ValueError, match="a queue of 0 frames"):
        FrameQueue(0)


def test_several_receivers_share_a_queue() -> None:
    async def main() -> None:
        queue = FrameQueue(10)
        getting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(1)
        for number in range(3):
            queue.put(bytes([number]))
        assert sorted(await asyncio.gather(*getting)) == [b"\0", b"\1", b"\2"]

    run(main)
