"""How fast bytes go through a vchan from a guest to dom0: libxenvchan in C, and this package.

Both ends are of one kind, and the rings of one size. A round measures either kind once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from statistics import median
from time import perf_counter

import activations
from activations import Domain, vchan

scenario = activations.Scenario("vchan rates")

PROGRAM = "/lab/vchan_rates"
TOTALS = {1 << 14: 1 << 23, 1 << 16: 1 << 24, 1 << 18: 1 << 26}
"""Bytes of a ring, and how many bytes go through it."""
SIZES = (1 << 16, 1 << 12)
"""Bytes of one write."""
READ = 1 << 16
"""Bytes that are read at once at most, by either."""
ROUNDS = 3


async def run(*arguments: object) -> str:
    """Run the C program; give what it prints."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return output.decode()


async def take(xen: Domain, path: str, guest: int, ring: int, total: int) -> float:
    """Seconds from the first byte to the last."""
    async with vchan.listen(xen, guest, path, left=ring, right=1024) as listener:
        stream = await listener.accept()
    async with stream:
        left = total - len(await stream.receive(READ))
        began = perf_counter()
        while left:
            left -= len(await stream.receive(READ))
        return perf_counter() - began


async def give(xen: Domain, path: str, size: int, total: int) -> None:
    data = bytes(size)
    async with await vchan.connect(xen, 0, path) as stream:
        for _ in range(total // size):
            await stream.send(data)


def runs(guest: int) -> Iterator[tuple[str, int, int]]:
    """The path, the size of the ring and of a write, of each run; a path is used once."""
    for number in range(ROUNDS):
        for ring, size in product(TOTALS, SIZES):
            yield f"/local/domain/{guest}/data/rates-{number}-{ring}-{size}", ring, size


@scenario.domain("dom0")
async def dom0(xen: Domain) -> dict[str, float]:
    guest = await xen.find("guest")
    await xen.store.write("/local/domain/0/domid", 0)  # where libxenvchan looks
    rates: dict[str, list[float]] = defaultdict(list)
    for path, ring, size in runs(guest):
        total = TOTALS[ring]
        in_c = float(await run("server", guest, f"{path}-c", READ, total, ring))
        ours = await take(xen, f"{path}-python", guest, ring, total)
        for kind, seconds in (("C", in_c), ("Python", ours)):
            rates[f"{kind}, rings of {ring}, writes of {size}"].append(total / seconds / 1e6)
    for name, each in rates.items():
        print(f"{name:40} {median(each):10.1f} MB/s")
    return {name: median(each) for name, each in rates.items()}


@scenario.domain("guest")
async def guest(xen: Domain) -> None:
    for path, ring, size in runs(xen.domid):
        await xen.store.wait_for(f"{path}-c/event-channel")
        await run("client", 0, f"{path}-c", size, TOTALS[ring])
        await give(xen, f"{path}-python", size, TOTALS[ring])
