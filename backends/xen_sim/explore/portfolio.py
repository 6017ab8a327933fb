"""Several strategies at a time: each has its turn, and what one finds ends the search of all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

from activations.errors import BackendError
from xen_sim.explore.crew import Share
from xen_sim.explore.strategies import FirstCome, Strategy
from xen_sim.explore.strategies.bounded import Bounded
from xen_sim.explore.strategies.chance import Guided, Walk
from xen_sim.explore.strategies.pct import Pct
from xen_sim.explore.strategies.reduced import Reduced
from xen_sim.explore.strategies.swarm import OrdinaryCourses, with_swarms

PORTFOLIO, REDUCED = "portfolio", "reduced"


def _portfolio(seed: int, limit: int | None) -> list[Strategy]:
    """Half of the runs go to the one that can come to an end."""
    bounded = Bounded(limit)
    return [bounded, Pct(seed), bounded, Guided(seed), bounded, Walk(seed)]


STRATEGIES: dict[str, Callable[[int, int | None], list[Strategy]]] = {
    PORTFOLIO: _portfolio,
    "first-come": lambda seed, limit: [FirstCome()],
    "walk": lambda seed, limit: [Walk(seed)],
    "pct": lambda seed, limit: [Pct(seed)],
    "delays": lambda seed, limit: [Bounded(limit)],
    "preemptions": lambda seed, limit: [Bounded(limit, delays=False)],
    REDUCED: lambda seed, limit: [Reduced()],
    "coverage": lambda seed, limit: [Guided(seed)],
    "swarm": lambda seed, limit: [OrdinaryCourses()],
}


def strategies(
    name: str,
    seed: int = 0,
    limit: int | None = None,
    *,
    reducible: bool = False,
    faulty: bool = False,
) -> list[Strategy]:
    """The strategies of this name, each as often as it has its turn; the portfolio has one more for
    a program that is `reducible`. Where faults may happen, those that go by chance have them happen
    by a chance of their own. Raises `BackendError` with the names there are, and where there is
    nothing to reduce."""
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise BackendError(f"there is no strategy {name!r}; there are: {known}")
    if name == REDUCED and not reducible:
        raise BackendError(
            "what this program's parts share besides memory and Xen is not seen, so that no two of "
            "its steps are known to be independent: take the strategy 'preemptions' or 'portfolio'"
        )
    found = STRATEGIES[name](seed, limit)
    if reducible and name == PORTFOLIO:
        found.append(Reduced())
    return with_swarms(found, seed) if faulty else found


class Turns:
    """Whose turn it is."""

    def __init__(self, of: list[Strategy]) -> None:
        self.all: list[Strategy] = list(dict.fromkeys(of))
        self._cycle = cycle(of)
        self._length = len(of)

    def share(self, size: int) -> Share:
        """Up to so many recipes; none where no strategy has any now."""
        share: Share = []
        empty = 0
        while len(share) < size and empty < self._length:
            strategy = next(self._cycle)
            recipe = strategy.next()
            if recipe is None:
                empty += 1
            else:
                empty = 0
                share.append((strategy, recipe))
        return share
