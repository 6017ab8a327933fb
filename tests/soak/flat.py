"""What lasts: events of which none may be lost, and schedules, over which memory stays flat."""

from __future__ import annotations

from activations import Domain
from xen_sim import Machine
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import FOUND, Figures

from .hostile import ROUGHLY, Broken, blocks

LOOKS = 100
"""Times that one looks at memory. Each collects all garbage there is: among many tests, that of all
of them."""


class Memory:
    """How much more the interpreter has in use than when a tenth was done."""

    def __init__(self, many: int) -> None:
        self._early = many // 10
        self._before = 0
        self.grown = 0.0
        """Percent."""

    def look(self, done: int) -> None:
        if not self._before and done >= self._early:
            self._before = blocks()
        elif self._before:
            self.grown = (blocks() - self._before) / self._before * 100

    def check(self, what: str) -> None:
        if self.grown > ROUGHLY:
            raise Broken(f"{what}: memory grew by {self.grown:.1f} %")


def events(many: int, looks: int = LOOKS) -> tuple[int, float]:
    """Two domains send each other so many events in all, each for one that came: one that is lost
    is waited for for ever, which the simulator says at once. How many came, and by how many percent
    memory grew. Raises `Broken`."""
    memory = Memory(many)
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
    return 2 * half, memory.grown


def schedules(many: int, seed: int, looks: int = LOOKS) -> tuple[int, float]:
    """So many schedules of a lower half that loses nothing, in one search. As `events`."""
    memory, last = Memory(many), 0

    def live(figures: Figures, doing: str) -> None:
        nonlocal last
        if figures.runs - last > many // looks:
            last = figures.runs
            memory.look(figures.runs)

    effort = Effort(runs=many, seconds=None, strategy="walk", seed=seed)
    verdict = explore(lower_half(ports=2, sends=2), effort, live=live)
    if verdict.kind == FOUND:
        raise Broken(f"schedules: {verdict.found[0].token}")
    memory.look(many)
    memory.check("schedules")
    return verdict.figures.runs, memory.grown
