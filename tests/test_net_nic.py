"""What a front end's user sends stands in line while there is no room."""

from __future__ import annotations

import asyncio

from activations.drivers.net import Nic


def test_who_waited_for_room_comes_before_the_next_frame_of_who_was_before() -> None:
    sent: list[bytes] = []

    async def main() -> None:
        nic = Nic(bytes(6), 1500, 1)

        async def send(*frames: bytes) -> None:
            for frame in frames:
                await nic.send(frame.ljust(60))

        def put(frame: bytes) -> bool:
            sent.append(frame.strip())
            return True

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send(b"first", b"third"))
            tasks.create_task(send(b"second", b"fourth"))
            await asyncio.sleep(0)
            nic.attach(put)

    asyncio.run(main())
    assert sent == [b"first", b"second", b"third", b"fourth"]
