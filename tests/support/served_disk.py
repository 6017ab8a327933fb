"""A disk as its back end uses it, for tests: what it begins is awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import activations
from activations import Domain
from activations.drivers.block.disks import Done, ServedDisk

SIZE = 1 << 20
CLOCKS = pytest.mark.parametrize("clock", ["virtual", "wall"])


async def finish(done: Done) -> None:
    if done is not None:
        await done


async def write(disk: ServedDisk, offset: int, *pieces: bytes) -> None:
    await finish(disk.write(offset, [memoryview(piece) for piece in pieces]))


async def read(disk: ServedDisk, offset: int, *lengths: int) -> bytes:
    pieces = [bytearray(length) for length in lengths]
    await finish(disk.read_into(offset, [memoryview(piece) for piece in pieces]))
    return b"".join(pieces)


def on(clock: str, main: Callable[[], Awaitable[None]]) -> None:
    async def run(xen: Domain) -> None:
        await main()

    activations.run(run, clock=clock)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path
