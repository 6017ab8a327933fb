"""The power goes, at every point of a run from a block front end to its disk, with every outcome
that there can be, or many: what was committed is there afterwards, and nothing by halves.

Who writes keeps a journal, as file systems and databases do, and relies on nothing but `flush`. A
disk, or a driver, that lies about a flush is found out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from random import Random
from struct import Struct
from typing import Any

import pytest

from activations import Domain
from activations.abi.blkif import Op
from activations.drivers import block
from activations.drivers.block import Disk, VolatileDisk
from activations.drivers.block.disks import Buffers
from activations.drivers.block.queue import BackQueue
from activations.xenbus import Device, front_device, plug
from xen_sim import Machine

SECTOR = 512
JOURNAL = 3
"""Sectors of the journal, which holds one record; a power cut can tear it apart."""
ACCOUNTS = 4
"""Of a sector each."""
REGION = (JOURNAL + ACCOUNTS) * SECTOR
RECORD = Struct("<5Q")
"""Sequence number; an account and its new balance, and another."""
TOTAL = 1000
TRANSFERS = 5
ALL_OF = 6
"""Writes of which any may be lost that are tried in every combination; of more, some are."""

Balances = tuple[int, ...]


class Ledger:
    """Moves amounts between accounts in its region of a disk.

    A transfer is written to the journal and flushed: it is committed. Then the accounts are
    written, and flushed before the journal is used again.
    """

    def __init__(self, number: int) -> None:
        self._start = number * REGION
        self._random = Random(number)
        self._states: list[Balances] = [(0,) * ACCOUNTS]
        self._committed = 0

    async def work(self, disk: Disk, look: Callable[[], None]) -> None:
        """Some transfers; `look` is called whenever another one is committed."""
        self._states.append((TOTAL, *self._states[0][1:]))
        await self._write_accounts(disk, {0: TOTAL})
        self._committed = 1
        for sequence in range(TRANSFERS):
            changed = self._transfer()
            await disk.write(self._start, record(sequence, changed))
            await disk.flush()
            self._committed += 1
            look()
            await self._write_accounts(disk, changed)

    def check(self, data: bytes) -> str | None:
        """Recover from what is on a disk: all that was committed has to be there, and of what was
        not, all or nothing. What is wrong with it, if anything is."""
        found = recovered(data[self._start : self._start + REGION])
        if found in self._states[self._committed :]:
            return None
        return f"{found}, with {self._committed} committed of {self._states}"

    def _transfer(self) -> dict[int, int]:
        """The next one: the new balances of two accounts. No two states are alike."""
        while True:
            payer, payee = self._random.sample(range(ACCOUNTS), 2)
            balances = list(self._states[-1])
            amount = self._random.randint(0, balances[payer])
            balances[payer] -= amount
            balances[payee] += amount
            if tuple(balances) not in self._states:
                self._states.append(tuple(balances))
                return {payer: balances[payer], payee: balances[payee]}

    async def _write_accounts(self, disk: Disk, changed: dict[int, int]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for account, balance in changed.items():
                at = self._start + (JOURNAL + account) * SECTOR
                data = balance.to_bytes(8, "little").ljust(SECTOR, b"\0")
                tasks.create_task(disk.write(at, data))
        await disk.flush()


def record(sequence: int, changed: dict[int, int]) -> bytes:
    """A record of the journal, with its sum at the end."""
    (one, first), (other, second) = changed.items()
    head = RECORD.pack(sequence, one, first, other, second)
    body = head + Random(sequence).randbytes(JOURNAL * SECTOR - len(head) - 32)
    return body + sha256(body).digest()


def recovered(region: bytes) -> Balances:
    """The accounts, with the journal's record applied if it is whole."""
    balances = [
        int.from_bytes(region[at : at + 8], "little") for at in range(JOURNAL * SECTOR, REGION, 512)
    ]
    body, sum = region[: JOURNAL * SECTOR - 32], region[JOURNAL * SECTOR - 32 : JOURNAL * SECTOR]
    if sha256(body).digest() == sum:
        _, one, first, other, second = RECORD.unpack_from(body)
        balances[one], balances[other] = first, second
    return tuple(balances)


class Watched(VolatileDisk):
    """Has somebody look at it after everything that is done with it."""

    def __init__(self, size: int) -> None:
        super().__init__(size, lambda sector: self._outcome())
        self.look: Callable[[], None] = lambda: None
        self._random = Random(1)

    def write(self, offset: int, buffers: Buffers) -> Any:
        super().write(offset, buffers)
        self.look()

    def flush(self) -> Any:
        super().flush()
        self.look()

    def after_a_cut(self) -> Iterator[bytes]:
        """What may be on it: every combination of what survives, or some of very many."""
        asked = 0

        def count() -> bool:
            nonlocal asked
            asked += 1
            return False

        yield self._with(count)
        yield self._with(lambda: True)
        if asked <= ALL_OF:
            for outcome in product([False, True], repeat=asked):
                yield self._with(iter(outcome).__next__)
        else:
            for _ in range(1 << ALL_OF):
                yield self._with(lambda: self._random.random() < 0.5)

    def _with(self, outcome: Callable[[], bool]) -> bytes:
        self._outcome = outcome
        return bytes(self.cut_power().data)


class Slow(Watched):
    """Takes its time: a write is done later, and a flush covers what was done when it began."""

    def write(self, offset: int, buffers: Buffers) -> Any:
        return self._write_later(offset, buffers)

    def flush(self) -> Any:
        super().flush()
        return asyncio.sleep(self._random.random() * 1e-3)

    async def _write_later(self, offset: int, buffers: Buffers) -> None:
        await asyncio.sleep(self._random.random() * 1e-3)
        super().write(offset, buffers)


@dataclass
class Search:
    """How often the power was cut, and what was found first that must not be."""

    cuts: int = 0
    broken: str = ""


def search(
    disk: Watched,
    ledgers: int = 1,
    *,
    seed: int | None = None,
    suspends: Sequence[int] = (),
    **options: Any,
) -> Search:
    """Have so many ledgers work on the disk at once; at every point cut the power, and check
    them. Their domain is suspended after so many turns of its loop, and so many more."""
    books = [Ledger(number) for number in range(ledgers)]
    found = Search()
    done = False

    def look() -> None:
        for data in disk.after_a_cut():
            found.cuts += 1
            for book in books:
                found.broken = found.broken or book.check(data) or ""

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", 51712, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        async with block.serve(xen, device, disk):
            while not done:
                await asyncio.sleep(0.1)

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vbd", 51712)
        async with block.open(xen, device, **options) as front, asyncio.TaskGroup() as tasks:
            for book in books:
                tasks.create_task(book.work(front, look))
            for turns in suspends:
                for _ in range(turns):
                    await asyncio.sleep(0)
                machine.suspend(xen.loop)
        nonlocal done
        done = True

    disk.look = look
    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
    return found


@pytest.mark.parametrize("options", [{}, {"persistent": False}, {"queues": 3, "ring_order": 0}])
@pytest.mark.parametrize("ledgers", [1, 3])
@pytest.mark.parametrize("kind", [Watched, Slow])
def test_what_was_committed_is_there_whenever_the_power_goes(
    kind: type[Watched], ledgers: int, options: dict[str, Any]
) -> None:
    found = search(kind(ledgers * REGION), ledgers, **options)
    assert not found.broken
    assert found.cuts > 100


@pytest.mark.parametrize("seed", range(10))
def test_it_is_on_every_schedule(seed: int) -> None:
    assert not search(Slow(3 * REGION), 3, seed=seed).broken


@pytest.mark.parametrize("seed", range(10))
def test_it_is_although_requests_are_sent_again_after_a_suspend(seed: int) -> None:
    suspends = [Random(seed).randrange(400) for _ in range(4)]
    assert not search(Slow(3 * REGION), 3, seed=seed, suspends=suspends).broken


# That a lie would be found


class NeverFlushes(Watched):
    def flush(self) -> None:
        pass


class FlushesEverySecondTime(Watched):
    times = 0

    def flush(self) -> None:
        self.times += 1
        if self.times % 2:
            super().flush()


class FlushesLater(Watched):
    """Answers at once."""

    def flush(self) -> None:
        asyncio.get_running_loop().call_later(1e-3, super().flush)


class WritesLater(Watched):
    """Answers at once: a flush that comes next is too early."""

    def write(self, offset: int, buffers: Buffers) -> None:
        held = [memoryview(bytes(buffer)) for buffer in buffers]
        asyncio.get_running_loop().call_later(1e-3, super().write, offset, held)


@pytest.mark.parametrize("kind", [NeverFlushes, FlushesEverySecondTime, FlushesLater, WritesLater])
def test_a_disk_that_lies_is_found_out(kind: type[Watched]) -> None:
    assert "committed" in search(kind(REGION)).broken


def front_end_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flush(disk: Disk) -> None:
        pass

    monkeypatch.setattr(Disk, "flush", flush)


def back_end_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not pass on what it is asked, and says that it was done."""
    do = BackQueue._do

    def lies(queue: BackQueue, id: int, op: Op, access: Any, work: Any, *args: Any) -> None:
        if op is Op.FLUSH_DISKCACHE:
            do(queue, id, op, access, lambda: None)
        else:
            do(queue, id, op, access, work, *args)

    monkeypatch.setattr(BackQueue, "_do", lies)


def back_end_that_is_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers a flush before it is done."""
    do = BackQueue._do

    def hasty(queue: BackQueue, id: int, op: Op, access: Any, work: Any, *args: Any) -> None:
        if op is Op.FLUSH_DISKCACHE:
            do(queue, id, op, access, lambda: None)
            asyncio.get_running_loop().call_later(1e-3, work)
        else:
            do(queue, id, op, access, work, *args)

    monkeypatch.setattr(BackQueue, "_do", hasty)


@pytest.mark.parametrize("lie", [front_end_that_lies, back_end_that_lies, back_end_that_is_hasty])
def test_a_driver_that_lies_is_found_out(
    lie: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lie(monkeypatch)
    assert "committed" in search(Watched(REGION)).broken
