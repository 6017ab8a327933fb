"""The engine for programs in Python: each run begins anew, on a machine of its own.

A program is a function that boots domains on a machine and runs it: a test's body, or the halves of
a scenario. It is run again and again, so it has to begin afresh each time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

from activations import promises
from activations.errors import LeakWarning
from activations.outcome import RunOptions
from activations.scenario import Scenario, load, load_one
from xen_sim.explore import chance
from xen_sim.explore.conductor import BUDGET, Conductor, Telling
from xen_sim.explore.engine import Account, Program, Run
from xen_sim.explore.finding import ESCAPE, Finding
from xen_sim.explore.looking import Looking
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.report import with_wrong
from xen_sim.explore.token import parse_for
from xen_sim.faults.kinds import NONE, Enabled, identity, parse
from xen_sim.guests import catalogue
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5
from xen_sim.schedule.tape import Diverged, Tape


class Printed(io.TextIOBase):
    """What domains print while they are explored: part of the one run that is told."""

    def __init__(self, machine: ExploredMachine, conductor: Conductor) -> None:
        self._telling = conductor if isinstance(conductor, Telling) else None
        self._machine = machine

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        running = self._machine.xen.scheduler.current
        if self._telling is not None and running is not None and text.strip():
            self._telling.write(running.name, text.rstrip())
        return len(text)


Body = Callable[[ExploredMachine], object]
"""Boots domains on the machine, and runs it."""


def fails(error: BaseException) -> bool:
    """Whether this is a failure of the program's, as `sys.exit` in it is, and not the end of the
    search."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(fails, error.exceptions))
    return not isinstance(error, KeyboardInterrupt)


class Programs:
    """Makes runs of one program in Python."""

    def __init__(
        self,
        program: Program,
        body: Body,
        *,
        kernel: type[Kernel] = Solo5,
        seed: int = 0,
        budget: int = BUDGET,
        faults: str = NONE,
        late: int = 0,
        reducible: bool = False,
        fails: Callable[[BaseException], bool] = fails,
    ) -> None:
        """Upcalls may come up to `late` steps late."""
        self._well = program
        """The program as it is where nothing goes wrong."""
        self.faults: Enabled = parse(faults)
        self._faults = faults
        with_faults = f"{program.identity} faults {identity(self.faults)}"
        self.program: Program = replace(program, identity=with_faults) if self.faults else program
        self._late = late
        self._reducible = reducible and not late
        self.seed = seed
        """Of the application's own chance."""
        self.path: Path | None = None
        """The file it stands in: by this it is pickled, where there is one."""
        self._body = body
        self._kernel = kernel
        self._budget = budget
        self._fails = fails

    @property
    def reducible(self) -> bool:
        """Whether its vCPUs share nothing but memory and Xen; faults are asked of no vCPU."""
        return self._reducible and not self.faults

    @property
    def name(self) -> str:
        return self.program.name

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self.path is None:
            return super().__reduce__()
        return _loaded, (f"{self.path}::{self.name}", self._faults)

    def faulty(self, faults: str) -> Programs:
        """The engine for the same program where these faults happen, and no others."""
        made = Programs(
            self._well,
            self._body,
            kernel=self._kernel,
            seed=self.seed,
            budget=self._budget,
            faults=faults,
            fails=self._fails,
            late=self._late,
        )
        made.path = self.path
        return made

    def run(self, tape: Tape) -> Run:
        conductor = Conductor(tape, self._budget)
        try:
            return self._run(conductor)
        except Diverged as error:  # the program is not the one it was a run ago
            finding = Finding(ESCAPE, str(error))
            return Run(conductor.course, b"", b"", conductor.steps, frozenset(), {}, finding)

    def tell(self, tape: Tape) -> Account:
        """Raises `Diverged` where the tape does not fit."""
        telling = Telling(tape, self._budget)
        run = self._run(telling)
        moments = telling.moments
        if run.finding is not None:
            moments = with_wrong(moments, run.finding.actor, run.finding.kind)
        return Account(run, tuple(telling.taken), tuple(moments), telling.actors)

    def _run(self, conductor: Conductor) -> Run:
        machine = ExploredMachine(conductor, self._kernel, self._faults, self._late)
        now = machine.xen.clock.time_ns
        if isinstance(conductor, Telling):
            conductor.now, conductor.looking = now, Looking(machine)
        promises.watch(machine)
        failure: BaseException | None = None
        result: object = None
        try:
            with chance.seeded(self.seed, now), redirect_stdout(Printed(machine, conductor)):
                result = self._body(machine)
        except BaseException as error:
            if not self._fails(error):
                raise
            failure = error
        finally:
            promises.unwatch()
            machine.close()  # it has not run where the body raised before
        finding = machine.finding(failure)
        del failure
        return Run(
            course=conductor.course,
            options=bytes(conductor.options),
            preemptions=bytes(conductor.preemptions),
            steps=conductor.steps,
            coverage=frozenset(conductor.coverage),
            sometimes=machine.sometimes,
            finding=finding,
            state=_digest(machine, result, finding),
            passed=conductor.passed,
        )

    def again(self, text: str) -> object:
        """The course of this token once more, in the open: what the program returns is returned,
        and what it raises is raised. Raises `TokenError` and `Diverged` for a token that does not
        fit."""
        token = parse_for(text, self.program.identity, self.program.name)
        tape = token.tape()
        conductor = Conductor(tape, self._budget)
        machine = ExploredMachine(conductor, self._kernel, self._faults, self._late)
        promises.watch(machine)
        try:
            with self.session(), chance.seeded(token.seed, machine.xen.clock.time_ns):
                result = self._body(machine)
        finally:
            promises.unwatch()
            machine.close()
        if tape.rest:
            raise Diverged(f"the run was over {len(tape.rest)} deviations before the token's end")
        return result

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around many runs: leaks are errors, and the process's own chance is left as it was."""
        with ExitStack() as stack:
            stack.enter_context(chance.kept())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("error", LeakWarning)
            yield


def _loaded(target: str, faults: str) -> Programs:
    """The engine that stands in a file, with these faults."""
    return load_one(target, Programs).faulty(faults)


def _digest(machine: ExploredMachine, result: object, finding: Finding | None) -> int:
    """Of what domains and Xen share, as the run left it, of what came out, and what was found."""
    running = crc32(repr((result, finding and finding.signature)).encode())
    for domain in machine.lives:
        running = crc32(domain.domain.shared_info.bytes, running)
    return running


def of_scenario(
    scenario: Scenario, how: RunOptions | None = None, *, late: int = 0, seed: int = 0
) -> Programs:
    """The halves of a scenario, as `activations run` boots them; each upcall may come up to `late`
    steps late."""
    how = how or RunOptions()
    kernel = catalogue.find(how.guest or Solo5.name)
    body = Halves(scenario, catalogue.delivery(how.delivery or "vector"), how.vcpus)
    built = f"{kernel.name} {body.delivery} {how.vcpus or 1}"
    identity = f"{scenario.name} {' '.join(scenario.halves)} {built}"
    if late:
        identity += f" late {late}"
    return Programs(Program(scenario.name, identity), body, kernel=kernel, late=late, seed=seed)


class Halves:
    """Boots the halves of a scenario. It is pickled as the file they stand in."""

    def __init__(self, scenario: Scenario, delivery: Delivery, vcpus: int | None) -> None:
        self.delivery = delivery
        self._scenario = scenario
        self._vcpus = vcpus

    def __call__(self, machine: ExploredMachine) -> object:
        for half in self._scenario.halves.values():
            machine.boot(
                half.name,
                half.main,
                delivery=self.delivery,
                vcpus=self._vcpus,
                restart=half.restart,
            )
        return machine.run()

    def __reduce__(self) -> tuple[object, ...]:
        target = f"{self._scenario.path}::{self._scenario.name}"
        return _halves, (target, self.delivery, self._vcpus)


def _halves(target: str, delivery: Delivery, vcpus: int | None) -> Halves:
    return Halves(load(target), delivery, vcpus)
