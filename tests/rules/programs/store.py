"""The same requests, the same answers: programs to be run on two kinds of Xen and compared.

A program is drawn from a seed and says after each step what came of it: the answer or the errno,
and the paths its watches reported. To know that no more reports will come, each step ends with a
write that is watched too. Domids, which differ from one Xen to the next, are told by name.

Programs called common keep to what all xenstoreds agree on, and say no more: see `COMMON`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

from activations import Domain, Scenario
from activations.store import Store, StoreError, Transaction, Watch
from activations.store.nodes import Nodes

SHARED = "/tool/activations-programs"
SYNC = "/tool/activations-sync"
COMMON = True
"""In a common program one transaction at most is under way, and then nothing is done outside it
(oxenstored merges what xenstored calls a conflict). Listings and reports are told in alphabetical
order, a transaction's reports as one. A guest's ENOENT, EACCES and EPERM are told as one, and of
its removals only what is left: xenstored looks at the permission before it looks whether there is
a node, oxenstored the other way round."""
STEPS = 150
SEEDS = 3


class Program:
    """Draws steps, takes them, and keeps what came of each in `said`."""

    def __init__(
        self,
        store: Store,
        random: Random,
        paths: list[str],
        names: dict[int, str],
        common: bool = False,
    ) -> None:
        self.said: list[str] = []
        self._common = common
        self._guest = len(names) > 1
        self._store = store
        self._random = random
        self._paths = paths
        self._names = names
        self._domids = {name: domid for domid, name in names.items()}
        self._transactions: list[Transaction] = []

    async def run(self, sync: str, *watched: str) -> list[str]:
        """Take the steps while `watched` are watched; `sync` is a place to write in."""
        async with AsyncExitStack() as stack:
            sentinel = await stack.enter_async_context(self._store.watch(sync))
            events = [await stack.enter_async_context(self._store.watch(w)) for w in watched]
            for number in range(STEPS):
                ended = await self._step(f"{number}")
                await self._store.write(f"{sync}/{number}", "")
                while await anext(sentinel) != f"{sync}/{number}":
                    pass
                for watch in events:
                    arrived = await _arrived(watch)
                    if self._common:
                        arrived = arrived[:1] and [watch.path] if ended else sorted(arrived)
                    self.said += [f"  {watch.path}: {self._plain(path)}" for path in arrived]
            for transaction in self._transactions:
                with suppress(StoreError):
                    await transaction.__aexit__(None, None, None)
        return self.said

    async def _step(self, label: str) -> bool:
        """Take one; whether it ended a transaction."""
        draw = self._random
        if draw.random() < 0.1 and len(self._transactions) < (1 if self._common else 3):
            self._transactions.append(await self._store.transaction().__aenter__())
            return False
        if draw.random() < 0.08 and self._transactions:
            transaction = self._transactions.pop(draw.randrange(len(self._transactions)))
            fault = draw.choice((None, None, ZeroDivisionError()))
            await self._say(label, "end", transaction.__aexit__(type(fault), fault, None))
            return True
        outside = [] if self._common and self._transactions else [self._store]
        nodes: Nodes = draw.choice([*outside, *self._transactions])
        where = "" if nodes is self._store else "in a transaction "
        path = draw.choice(self._paths)
        value = str(draw.randrange(3))
        letters = [draw.choice("nrwb") for _ in range(draw.randrange(1, 4))]
        whose = [draw.choice(sorted(self._domids)) for _ in letters]
        perms = [f"{a}{self._domids[d]}" for a, d in zip(letters, whose, strict=True)]
        match draw.choice(("read", "list", "write", "write", "mkdir", "rm", "perms", "chmod")):
            case "read":
                await self._say(label, f"{where}read {path}", nodes.read(path))
            case "list":
                await self._say(label, f"{where}list {path}", self._list(nodes, path))
            case "write":
                await self._say(label, f"{where}write {path}", nodes.write(path, value))
            case "mkdir":
                await self._say(label, f"{where}mkdir {path}", nodes.mkdir(path))
            case "rm":
                await self._say(label, f"{where}rm {path}", nodes.rm(path))
            case "perms":
                await self._say(label, f"{where}perms {path}", self._perms(nodes, path))
            case _:
                told = f"{where}chmod {path} {letters} {whose}"
                await self._say(label, told, nodes.set_perms(path, *perms))
        return False

    async def _say(self, label: str, what: str, attempt: Awaitable[object]) -> None:
        try:
            answer = str(await attempt)
        except StoreError as error:
            answer = errno.errorcode[error.errno or 0]
        if self._common and self._guest:
            answer = "told by what is left" if " rm " in f" {what}" else answer
            answer = "refused" if answer in ("ENOENT", "EACCES", "EPERM") else answer
        self.said.append(f"{label}. {self._plain(what)} -> {answer}")

    async def _list(self, nodes: Nodes, path: str) -> list[str]:
        names = await nodes.list(path)
        return sorted(names) if self._common else names

    async def _perms(self, nodes: Nodes, path: str) -> str:
        perms = await nodes.get_perms(path)
        return " ".join(f"{str(p)[0]}-{self._names.get(p.domid, p.domid)}" for p in perms)

    def _plain(self, text: str) -> str:
        for domid, name in self._names.items():
            text = text.replace(f"/local/domain/{domid}/", f"/local/domain/{name}/")
        return text


async def _arrived(watch: Watch) -> list[str]:
    """What can be had without waiting."""
    paths = []
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            while True:
                paths.append(await anext(watch))
    return paths


@asynccontextmanager
async def shared(store: Store) -> AsyncIterator[None]:
    """The place both programs work in, fresh."""
    for path in (SHARED, SYNC):
        await store.rm(path)
        await store.mkdir(path)
    try:
        yield
    finally:
        for path in (SHARED, SYNC):
            await store.rm(path)


def dom0_program(seed: int, common: bool = False) -> Scenario:
    """dom0 alone: everything but permissions counts."""
    scenario = Scenario(f"{'common_' * common}dom0_program_{seed}")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> list[str]:
        nodes = ["a", "a/b", "a/b/c", "a/d", "e", "e/f"]
        paths = [SHARED, "", "/no path", *(f"{SHARED}/{node}" for node in nodes)]
        program = Program(xen.store, Random(seed), paths, {0: "dom0"}, common)
        watched = [SHARED] if common else [f"{SHARED}/a", f"{SHARED}/a/b", f"{SHARED}/e"]
        async with shared(xen.store):
            return await program.run(SYNC, *watched)

    return scenario


def guest_program(seed: int, common: bool = False) -> Scenario:
    """A guest where it may, where it may not, and where dom0 let it (to read, in a common one)."""
    scenario = Scenario(f"{'common_' * common}guest_program_{seed}")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> None:
        domid = await xen.find("guest")
        async with shared(xen.store):
            for letter in "nrwb":
                await xen.store.mkdir(f"{SHARED}/{letter}")
                await xen.store.set_perms(f"{SHARED}/{letter}", "n0", f"{letter}{domid}")
                await xen.store.write(f"{SHARED}/{letter}/x", "1")
            home = await xen.store.get_domain_path(domid)
            await xen.store.write(f"{home}/data/begin", "1")
            await xen.store.wait_for(f"{home}/data/end")

    @scenario.domain("guest")
    async def guest(xen: Domain) -> list[str]:
        await xen.store.wait_for("data/begin")
        paths = ["name", "new", "data/a", "data/a/b", "data/a/b/c", "control", "device/x"]
        shown = "nr" if common else "nrwb"
        paths += [f"{SHARED}/{letter}{below}" for letter in shown for below in ("", "/x", "/y/z")]
        paths += [SHARED, "/local/domain", "/nowhere/at/all"]
        names = {0: "dom0", xen.domid: "guest"}
        program = Program(xen.store, Random(seed), paths, names, common)
        watched = ["data/a"] if common else ["data/a", f"{SHARED}/b", f"{SHARED}/r/x"]
        try:
            return await program.run("data/sync", *watched)
        finally:
            await xen.store.write("data/end", "1")

    return scenario


programs = {
    program.name: program
    for seed in range(SEEDS)
    for make in (dom0_program, guest_program)
    for program in (make(seed), make(seed, COMMON))
}
globals().update(programs)
