"""What lasts: events of which none may be lost, and schedules, over which memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

from activations import Domain
from xen_sim import Machine
from xen_sim.explore.engine import Engine, Program
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import FOUND, Figures
from xen_sim.faults.kinds import NONE

from .hostile import ROUGHLY, Broken, blocks

PAGE = getpagesize()
LOOKS = 100
"""Times that one looks at memory. Each collects all garbage there is: among many tests, that of all
of them."""


class Memory:
    """How much more the interpreter has in use than when a tenth was done; and the process's pages,
    which are said and not judged: who shares a machine does not choose them."""

    def __init__(self, many: int, say: Callable[[str], object], keeps: int = 0) -> None:
        self._many = many
        self._keeps = keeps
        self._early = many // 10
        self._say = say
        self._before = 0
        self.grown = 0.0
        """Percent."""
        self.resident: list[float] = []
        """MiB, from then on."""

    def look(self, done: int) -> None:
        if done >= self._early:
            now = blocks()
            self._before = self._before or now
            self.grown = (now - self._before) / self._before * 100
            self.resident.append(resident())
            self._say(f"{done:,} of {self._many:,}: {self}")

    def check(self, what: str) -> None:
        """Raises `Broken` if it has grown; not for the blocks that are kept by intent."""
        if self.grown > ROUGHLY + self._keeps / max(self._before, 1) * 100:
            raise Broken(f"{what}: memory grew by {self.grown:.1f} %")

    def __str__(self) -> str:
        first, most = self.resident[0], max(self.resident)
        return f"memory {self.grown:+.2f} %, {first:.1f} MiB, later {most:.1f} at most"


def resident() -> float:
    """MiB of memory that this process has (Linux's `statm`)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE / (1 << 20)


def nobody(text: str) -> None:
    """Hears how far it is."""


def events(
    many: int, looks: int = LOOKS, say: Callable[[str], object] = nobody
) -> tuple[int, Memory]:
    """Two domains send each other so many events in all, each for one that came: one that is lost
    is waited for for ever, which the simulator says at once. How many came, and what came of
    memory. Raises `Broken`."""
    memory = Memory(many, say)
    half = many // 2

    async def dom0(xen: Domain) -> int:
        guest = await xen.find("guest")
        with xen.events.alloc_unbound(guest) as port:
            await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
            for came in range(half):
                await port.wait()
                port.notify()
                if came % (half // looks or 1) == 0:
                    memory.look(2 * came)
            return port.statistics().fired

    async def guest(xen: Domain) -> int:
        number = int(await xen.store.wait_for("data/port"))
        with xen.events.bind_interdomain(0, number) as port:
            await port.wait()  # of its own being bound
            for _ in range(half):
                port.notify()
                await port.wait()
            return port.statistics().fired

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    came = machine.run()
    if came["dom0"] != half or came["guest"] != half + 1:
        raise Broken(f"events: of {half:,} each way came {came}")
    memory.check("events")
    return 2 * half, memory


def ping_pong(machine: ExploredMachine) -> object:
    """Two domains in asyncio, as in examples/pingpong.py; once."""

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with xen.events.alloc_unbound(guest) as port:
            await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
            await port.wait()
            port.notify()

    async def guest(xen: Domain) -> None:
        number = int(await xen.store.wait_for("data/port"))
        with xen.events.bind_interdomain(0, number) as port:
            port.notify()
            await port.wait()

    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()


@dataclass(frozen=True, slots=True)
class Search:
    """A program that loses nothing, and how it is searched."""

    engine: Callable[[], Engine]
    strategy: str
    faults: str = NONE
    one_in: int = 1
    """Of so many schedules that are asked for, one is made: it takes longer than a bare one."""
    keeps: int = 0
    """Blocks of memory that its strategies fill in the course of some thousand schedules."""


def _half() -> Engine:
    return lower_half(ports=2, sends=2)


def _ping_pong() -> Engine:
    return Programs(Program("ping-pong", "ping-pong"), ping_pong)


KEPT = 20_000
"""Twice 1,000 courses of a level, of some five blocks each; 500 courses that showed something new,
of up to twenty."""
SEARCHES = {
    "half-walk": Search(_half, "walk"),
    "half-portfolio": Search(lambda: lower_half(ports=3, sends=3), "portfolio", keeps=KEPT),
    "asyncio-portfolio": Search(_ping_pong, "portfolio", "safe", one_in=10, keeps=KEPT),
}


def schedules(
    name: str, many: int, seed: int, looks: int = LOOKS, say: Callable[[str], object] = nobody
) -> tuple[int, Memory]:
    """So many schedules in one search, at whose memory one looks before it has ended: with it goes
    what it kept. As `events`."""
    search = SEARCHES[name]
    memory, last = Memory(many, say, search.keeps), 0

    def live(figures: Figures, doing: str) -> None:
        nonlocal last
        if figures.runs - last > many // looks or figures.runs >= many:
            last = figures.runs
            memory.look(figures.runs)

    effort = Effort(
        runs=many, seconds=None, strategy=search.strategy, seed=seed, faults=search.faults
    )
    verdict = explore(search.engine(), effort, live=live)
    if verdict.kind == FOUND:
        raise Broken(f"schedules, {name}: {verdict.found[0].token}")
    memory.check(f"schedules, {name}")
    return verdict.figures.runs, memory
