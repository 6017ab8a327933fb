"""What the command asks for: a scenario's file, or a kernel's lower half, explored or replayed, and
what was found written as a view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activations.errors import BackendError
from activations.outcome import RunOptions
from activations.scenario import Scenario
from xen_sim.explore.database import Database
from xen_sim.explore.engine import Engine
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.programs import Programs, of_scenario
from xen_sim.explore.search import Effort, Live, explore
from xen_sim.explore.token import parse_for
from xen_sim.explore.verdict import FOUND, OPEN, Figures, Found, Verdict
from xen_sim.faults.kinds import SAFE, listed
from xen_sim.guests import catalogue
from xen_sim.guests.solo5 import Solo5
from xen_sim.schedule.tape import Diverged, Replay, Tape
from xen_sim.views import suffix
from xen_sim.views.beside import nearest


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explored, and on what."""

    of: Scenario | Programs | None = None
    """What a file holds: a scenario, or an engine of its own; None for a lower half by itself."""
    guest: str | None = None
    delivery: str | None = None
    vcpus: int | None = None
    late: int = 0
    """The most steps that an upcall may come late."""
    ports: int = 1
    sends: int = 2
    faults: str | None = None
    """What may go wrong; None for what every scenario has to stand, for a lower half nothing."""

    def engine(self) -> Engine:
        """Raises `BackendError` for what cannot be."""
        well, usual = self._well(), SAFE if isinstance(self.of, Scenario) else None
        faults = usual if self.faults is None else self.faults
        return well if faults is None else well.faulty(faults)

    def _well(self) -> Programs:
        if isinstance(self.of, Programs):
            if self.guest or self.delivery or self.vcpus or self.late:
                raise BackendError(
                    f"{self.of.name} says itself what it runs on: leave out --guest, --delivery, "
                    "--vcpus and --late"
                )
            return self.of
        if self.of is not None:
            if self.of.clock != "virtual":
                raise BackendError(
                    f"{self.of.name} is for the wall clock, and has to do with the real "
                    "world: it cannot be explored"
                )
            how = RunOptions(guest=self.guest, delivery=self.delivery, vcpus=self.vcpus)
            return of_scenario(self.of, how, late=self.late)
        return lower_half(
            catalogue.find(self.guest or Solo5.name),
            ports=self.ports,
            sends=self.sends,
            delivery=catalogue.delivery(self.delivery or "vector"),
            late=self.late,
        )


class Explorer:
    """The simulator's."""

    kinds: tuple[type[Scenario], type[Programs]] = (Scenario, Programs)
    """What it takes of a file."""

    def faults(self) -> list[tuple[str, str, bool, str]]:
        """What may go wrong: kind, name, whether every program has to stand it, what happens."""
        return listed()

    def explore(self, subject: dict[str, Any], effort: dict[str, Any], live: Live) -> Verdict:
        """Search it; what is found is kept in `.activations/`."""
        engine = Subject(**subject).engine()
        return explore(engine, Effort(**effort), database=Database(), live=live)

    def replay(self, subject: dict[str, Any], text: str) -> Verdict:
        """Take a token's course once more.

        Raises `TokenError` for a token that is none, or another program's, and `BackendError` for
        one that no longer fits, with the first choice that differs.
        """
        engine = Subject(**subject).engine()
        program = engine.program
        token = parse_for(text, program.identity, program.name)
        kept = [each for each in Database().of(program.identity) if str(each.token) == text]
        tape: Tape = Replay(kept[0].taken) if kept else token.tape()
        try:
            with engine.session():
                run, _, moments, actors = engine.tell(tape)
        except Diverged as error:
            raise BackendError(f"{text} does not fit: {error}") from None
        figures = Figures(1, 0.0, run.steps, len(run.options))
        if rest := len(token.course) - len(run.course):
            raise BackendError(
                f"{text} does not fit: the run was over {rest} deviations before its end"
            )
        found = Found(run.finding, text, run.course, moments, actors) if run.finding else None
        kind, all_found = (FOUND, [found]) if found else (OPEN, [])
        return Verdict(program.name, kind, figures, all_found)

    def write(
        self, subject: dict[str, Any], found: Found, html: Path | None, perfetto: Path | None
    ) -> None:
        """Write what was found: as a page, beside the nearest run that passes, and for Perfetto.
        Raises `BackendError` where a file cannot be written."""
        if html is not None:
            engine = Subject(**subject).engine()
            with engine.session():
                passing = nearest(engine, found.course)
            beside = passing.moments if passing else ()
            suffix.write_page(html, found, engine.program.name, beside)
        if perfetto is not None:
            suffix.write_perfetto(perfetto, found)
