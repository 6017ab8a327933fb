"""`python tests/benchmarks/peers.py`: explorers of asyncio programs from PyPI beside this one.

They are installed into a scratch environment, which is gone afterwards; some want Python 3.12. One
that cannot be installed, or that does not take a program, is said to. Two programs: two tasks that
ping-pong once, and a consumer that looks, finds nothing, and has not yet said that it sleeps when
the producer looks whether to wake it. For those it is two tasks and `asyncio.Event`; here it is two
domains, with an event loop each, on a simulated Xen: a shared page and an event channel.

Time is the processor's. Runs are counted by the programs, so that those an explorer makes to
measure or to shrink count too.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PEERS = ("detangle", "simloom", "simloop", "frontrun")
RUNS = 400
ITEMS = 2
SEARCH = 2_000
"""Runs in which the lost wake-up has to be found."""

runs = 0


# The programs, in asyncio's terms


class Table:
    """What two tasks share."""

    def __init__(self) -> None:
        global runs
        runs += 1
        self.there, self.back = asyncio.Event(), asyncio.Event()
        self.items, self.asleep = 0, False


async def ping(table: Table) -> None:
    table.there.set()
    await table.back.wait()


async def pong(table: Table) -> None:
    await table.there.wait()
    table.back.set()


async def consume(table: Table) -> None:
    taken = 0
    while taken < ITEMS:
        if table.items > taken:
            taken += 1
            continue
        await asyncio.sleep(0)  # about to say so
        table.asleep = True
        await table.there.wait()
        table.there.clear()
        table.asleep = False


async def produce(table: Table) -> None:
    for _ in range(ITEMS):
        table.items += 1
        if table.asleep:
            table.there.set()
        await asyncio.sleep(0)  # it has other things to do


Task = Callable[[Table], Any]
PROGRAMS: dict[str, tuple[Task, Task]] = {"ping-pong": (ping, pong), "lost": (consume, produce)}


def together(tasks: tuple[Task, Task]) -> Callable[[], Any]:
    async def main() -> None:
        table = Table()
        await asyncio.gather(*(each(table) for each in tasks))

    return main


# How each is asked for so many runs, and whether it found something


def by_detangle(tasks: tuple[Task, Task], most: int) -> object:
    detangle = import_module("detangle")
    found: list[type[Exception]] = [detangle.BugFound]
    try:
        detangle.explore(together(tasks), runs=most, shrink=False, database=False)
    except tuple(found):
        return True
    return False


def by_simloom(tasks: tuple[Task, Task], most: int) -> object:
    return import_module("simloom").explore(together(tasks), runs=most).failed


def by_simloop(tasks: tuple[Task, Task], most: int) -> object:
    return import_module("simloop").explore(together(tasks), range(most))


def by_frontrun(tasks: tuple[Task, Task], most: int) -> object:
    """By its reduction, which ends by itself. A run that waits for good is cut by the wall's time,
    and leaves the search undecided."""
    explore = import_module("frontrun").explore
    held = asyncio.run(
        explore(Table, list(tasks), lambda table: True, max_executions=most, timeout_per_run=1.0)
    ).property_holds
    return "undecided" if held is None else not held


ASKED: dict[str, Callable[[tuple[Task, Task], int], object]] = {
    "detangle": by_detangle,
    "simloom": by_simloom,
    "simloop": by_simloop,
    "frontrun": by_frontrun,
}


def row(name: str, searches: Iterable[tuple[str, Callable[[], object]]]) -> str:
    """One explorer's line."""
    cells = [name]
    for program, search in searches:
        began, before = time.process_time(), runs
        try:
            found = search()
        except Exception as error:
            cells.append(f"refused: {type(error).__name__}: {error}".splitlines()[0][:90])
            continue
        seconds, made = time.process_time() - began, runs - before
        rate = f"{made / seconds:,.0f} a second"
        how = found if isinstance(found, str) else "found" if found else "not found"
        lost = f"{how} in {made:,} runs"
        if program == "ping-pong":
            cells.append(f"{rate}, {made:,} runs")
        else:
            cells.append(f"{lost}, {seconds:.2f} s")
    return f"| {' | '.join(cells)} |"


def theirs(name: str) -> str:
    ASKED[name](PROGRAMS["ping-pong"], 2)  # what is imported, and made once
    most = {"ping-pong": RUNS, "lost": SEARCH}
    return row(
        name, [(each, lambda e=each: ASKED[name](PROGRAMS[e], most[e])) for each in PROGRAMS]
    )


# This one


def ours() -> str:
    from xen_sim.explore.engine import Program
    from xen_sim.explore.machine import ExploredMachine
    from xen_sim.explore.programs import Programs
    from xen_sim.explore.search import Effort, explore

    async def ping_pong_guest(xen: Any) -> None:
        with xen.events.alloc_unbound(0) as port:
            await port.wait()
            port.notify()

    async def ping_pong_dom0(xen: Any) -> None:
        await asyncio.sleep(1)
        with xen.events.bind_interdomain(1, 2) as port:
            await port.wait()
            port.notify()
            await port.wait()

    async def consumer(xen: Any) -> None:
        with xen.grants.share(0) as page, xen.events.alloc_unbound(0) as port:
            await xen.store.write("data/ref", page.refs[0])
            await xen.store.write("data/port", port.number)
            taken = 0
            while taken < ITEMS:
                if page.memory[0] > taken:
                    taken += 1
                    continue
                page.memory[1] = 1
                await port.wait()
                page.memory[1] = 0
            await xen.store.write("data/done", "")
            await xen.store.wait_for("data/unmapped")

    async def producer(xen: Any) -> None:
        home = "/local/domain/1/data"
        number = int(await xen.store.wait_for(f"{home}/port"))
        refs = [int(await xen.store.read(f"{home}/ref"))]
        with xen.events.bind_interdomain(1, number) as port, xen.grants.map(1, refs) as page:
            for _ in range(ITEMS):
                page.memory[0] += 1
                if page.memory[1]:
                    port.notify()
                await asyncio.sleep(0)
            await xen.store.wait_for(f"{home}/done")
        await xen.store.write(f"{home}/unmapped", "")

    def engine(name: str, dom0: Any, guest: Any) -> Programs:
        def body(machine: ExploredMachine) -> object:
            global runs
            runs += 1
            machine.boot("dom0", dom0)
            machine.boot("guest", guest)
            return machine.run()

        return Programs(Program(name, name), body)

    def search(name: str, dom0: Any, guest: Any, most: int) -> Callable[[], object]:
        effort = Effort(runs=most, seconds=None)
        return lambda: explore(engine(name, dom0, guest), effort).found

    return row(
        "this one",
        [
            ("ping-pong", search("ping-pong", ping_pong_dom0, ping_pong_guest, RUNS)),
            ("lost", search("lost", producer, consumer, SEARCH)),
        ],
    )


# The scratch environment


def newer() -> str:
    """A Python that all of them take."""
    for version in ("3.12", "3.13"):
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
        for each in (*map(str, pyenv), shutil.which(f"python{version}")):
            if each and not subprocess.run([each, "-c", ""], capture_output=True).returncode:
                return each
    return sys.executable


def main() -> None:
    if len(sys.argv) > 1:
        print(theirs(sys.argv[1]))
        return
    print("| explorer | two that ping-pong once | a lost wake-up |\n|---|---|---|")
    print(ours(), flush=True)
    with TemporaryDirectory() as folder:
        subprocess.run([newer(), "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        for name in PEERS:
            install = [python, "-m", "pip", "install", "-q", name]
            if subprocess.run(install, capture_output=True).returncode:
                print(f"| {name} | cannot be installed here | |")
                continue
            with suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    [python, __file__, name], capture_output=True, text=True, timeout=120
                )
                said = done.stdout.splitlines() or [f"| {name} | {done.stderr[-200:]!r} | |"]
                print(said[-1], flush=True)
                continue
            print(f"| {name} | no end in 120 s | |", flush=True)


if __name__ == "__main__":
    main()
