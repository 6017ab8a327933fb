"""What the command asks for: a kernel's C explored under each delivery, or replayed, and what was
found written as a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xen_kernel.engine import Limits, Live
from xen_kernel.errors import KernelError
from xen_kernel.scenario import DELIVERIES, HARNESS, KERNELS, Scenario
from xen_kernel.verdicts import beside, decide, fitting, replay
from xen_sim.explore.verdict import FOUND, Figures, Found, Verdict
from xen_sim.views import suffix

STATES, REDUCED, PREEMPTIONS = "states", "reduced", "preemptions"
STRATEGIES = (STATES, REDUCED, PREEMPTIONS)
MEMORY = 3072
"""MiB, if nothing is said."""
LEAST_MEMORY = 16
"""MiB, for each process."""
MOST_PREEMPTIONS = 200
"""They are counted in a byte."""
MOST_JOBS = 64
"""MAX_JOBS in engine/search.h."""


class Explorer:
    """Of kernels in C."""

    def subjects(self, subject: dict[str, Any]) -> list[dict[str, Any]]:
        """One for each delivery that was asked for: for every one, if none was."""
        ways = [subject["delivery"]] if subject["delivery"] else list(DELIVERIES)
        if subject["arch"] == "arm64" and not subject["delivery"]:
            ways.remove("pv")  # which arm64 has not
        return [{**subject, "delivery": way} for way in ways]

    def explore(self, subject: dict[str, Any], effort: dict[str, Any], live: Live) -> Verdict:
        """Every state, or those within so many preemptions. Raises `KernelError` for what cannot
        be explored as it is given."""
        bound = _bound(effort)
        limits = Limits(effort["seconds"], _memory(subject))
        reduced = effort.get("strategy") == REDUCED
        jobs = _jobs(effort, limits)
        return decide(_scenario(subject), limits, bound, live, reduced=reduced, jobs=jobs)

    def replay(self, subject: dict[str, Any], text: str) -> Verdict:
        """A token's run again. The delivery need not be said: it is the token's. Raises
        `TokenError` where the token is another's, or no longer fits."""
        scenario = fitting(map(_scenario, self.subjects(subject)), text)
        found = replay(scenario, text)
        figures = Figures(1, steps=len(found.moments), depth=len(found.moments))
        return Verdict(scenario.title, FOUND, figures, [found])

    def write(
        self, subject: dict[str, Any], found: Found, html: Path | None, perfetto: Path | None
    ) -> None:
        """Write what was found: as a page, beside the nearest run that passes, and for Perfetto.
        Raises `BackendError` where a file cannot be written."""
        if html is not None:
            scenario = fitting(map(_scenario, self.subjects(subject)), found.token)
            suffix.write_page(html, found, scenario.title, beside(scenario, found))
        if perfetto is not None:
            suffix.write_perfetto(perfetto, found)


def _scenario(subject: dict[str, Any]) -> Scenario:
    same = (
        "include",
        "vcpus",
        "ports",
        "sends",
        "spread",
        "timer",
        "buffers",
        "arch",
        "delivery",
        "abi",
        "passes",
    )
    given = {name: subject[name] for name in same if subject[name] is not None}
    return Scenario(
        tuple(map(_file, subject["kernel"])),
        harness=subject["harness"] or HARNESS,
        defines=subject["define"],
        **given,
    )


def _file(name: str) -> Path:
    """A file, or a lower half of this project's own by its name."""
    own = KERNELS / f"{name}.c"
    if Path(name).suffix or "/" in name:
        return Path(name)
    if not own.exists():
        names = ", ".join(sorted(path.stem for path in KERNELS.glob("*.c")))
        raise KernelError(
            f"{name!r} is not a lower half that comes with activations: those are {names}; "
            "give a kernel of your own as a file (events.c)"
        )
    return own


def _memory(subject: dict[str, Any]) -> int:
    return int(subject["memory"] or MEMORY) << 20


def _jobs(effort: dict[str, Any], limits: Limits) -> int:
    jobs: int = effort.get("jobs", 1)
    if jobs > MOST_JOBS:
        raise KernelError(f"{jobs} jobs: the engine takes 1 to {MOST_JOBS}")
    if (given := limits.memory >> 20) < LEAST_MEMORY * jobs:
        raise KernelError(
            f"{given} MiB of memory for {jobs} jobs: {LEAST_MEMORY} for each is the least"
        )
    return jobs


def _bound(effort: dict[str, Any]) -> int | None:
    strategy = effort.get("strategy")
    if strategy == PREEMPTIONS and effort["limit"] is None:
        raise KernelError("--strategy preemptions needs a bound: --preemptions K")
    if strategy not in (None, *STRATEGIES):
        raise KernelError(
            f"there is no strategy {strategy!r} for C; there are: {', '.join(STRATEGIES)}"
        )
    limit: int | None = effort["limit"]
    if limit is not None and limit > MOST_PREEMPTIONS:
        raise KernelError(f"{limit} preemptions: the engine takes 0 to {MOST_PREEMPTIONS}")
    if strategy == REDUCED and limit is not None:
        raise KernelError("--strategy reduced and --preemptions exclude each other: leave one out")
    return limit
