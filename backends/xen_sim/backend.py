"""The simulator as a backend: loops for one domain, and scenarios of many.

The explorer and the views are imported when they are asked for: they bring what no run needs, and
every program begins here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from activations import watched
from activations.backend import Check, accelerated, refuse
from activations.errors import BackendError
from activations.loop import EventLoop
from activations.lower import Clock
from activations.outcome import Observer, Outcome, RunOptions
from activations.registry import PROTOCOL_VERSION
from activations.running import told
from activations.scenario import Scenario
from activations.trace import Trace, writer
from xen_sim.guests import catalogue
from xen_sim.guests.solo5 import Solo5
from xen_sim.interrupt import interruptible
from xen_sim.machine import Machine
from xen_sim.output import lines_by_domain
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.serve import SocketServer

if TYPE_CHECKING:
    from activations.evtchn.listing import PortState
    from xen_kernel.explorer import Explorer as KernelExplorer
    from xen_sim.explorer import Explorer


class SimBackend:
    """`backend="sim"`."""

    name = "sim"
    protocol_version = PROTOCOL_VERSION

    def new_event_loop(self, *, clock: Clock | None = None, seed: int | None = None) -> EventLoop:
        """A machine of its own with one domain, dom0, whose loop this is."""
        return Machine(clock=clock or "virtual", seed=seed).create("dom0")

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """All halves on one machine; `--as` is refused, since no other domain would be there."""
        if options.only is not None:
            raise BackendError(
                "backend 'sim' runs all domains of a scenario, not one of them (--as "
                f"{options.only}): leave out --as"
            )
        refuse(self.name, {"record": options.record}, "a seed or a token repeats its runs")
        trace = Trace() if options.trace else None
        clock = options.clock or scenario.clock
        machine = Machine(clock=clock, seed=options.seed, trace=trace)
        scheduler = machine.xen.scheduler
        try:
            with (
                watched.asked(options.top),
                interruptible(scheduler),
                lines_by_domain(machine, observer),
            ):
                _boot(machine, scenario, options)
                trouble = machine.run_out()
        finally:  # and not in there: nothing gives the processor away while a file is written
            if trace is not None and trace.events and options.trace is not None:
                writer(options.trace, scenario.name)(trace)
        if scheduler.interrupted:  # too late for anybody to take it
            trouble = trouble or KeyboardInterrupt()
        if isinstance(trouble, KeyboardInterrupt):
            raise trouble
        return _outcome(machine, trouble)

    def ports(
        self, scenario: Scenario, options: RunOptions, observer: Observer, *, at: int | None = None
    ) -> tuple[int, list[PortState]]:
        """Run a scenario, and give every port of its domains at one moment, and when that was.

        The moment is `at` nanoseconds of the clock, where the run ends, or else the one when most
        ports were open. Raises `BackendError` if the run is over before.
        """
        from xen_sim.ports import Snapshot

        machine = Machine(clock=options.clock or scenario.clock, seed=options.seed)
        with interruptible(machine.xen.scheduler), lines_by_domain(machine, observer):
            _boot(machine, scenario, options)
            snapshot = Snapshot(machine, at)
            trouble = machine.run_out()
        if isinstance(trouble, KeyboardInterrupt):
            raise trouble
        if snapshot.ports is None:
            when = "" if at is None else f" before {at / 1e9:g} s were over"
            raise BackendError(f"{scenario.name!r} ended{when or ' and never had a port open'}")
        return snapshot.ns, snapshot.ports

    def store_server(self, socket: Path) -> SocketServer:
        """A xenstored that knows dom0 alone, on this Unix socket while its block runs."""
        xenstored = Xenstored()
        toolstack.introduce_dom0(xenstored)
        return SocketServer(xenstored, socket)

    @property
    def explorer(self) -> Explorer:
        """What `activations explore` asks."""
        from xen_sim.explorer import Explorer

        return Explorer()

    @property
    def kernel_explorer(self) -> KernelExplorer:
        """What `activations explore --kernel` asks."""
        from xen_kernel.explorer import Explorer

        return Explorer()

    @property
    def views(self) -> ModuleType:
        """What draws a trace: `write(path, trace, title)`."""
        from xen_sim.views import suffix

        return suffix

    def doctor(self) -> Sequence[Check]:
        from importlib.metadata import version

        return [
            Check("simulated Xen", True, f"in this process, greenlet {version('greenlet')}"),
            accelerated(),
        ]


def _boot(machine: Machine, scenario: Scenario, options: RunOptions) -> None:
    for half in scenario.halves.values():
        machine.boot(
            half.name,
            half.main,
            kernel=catalogue.find(options.guest or Solo5.name),
            delivery=catalogue.delivery(options.delivery or "vector"),
            vcpus=options.vcpus,
        )


def _outcome(machine: Machine, trouble: BaseException | None) -> Outcome:
    outcome = Outcome()
    for life in machine.lives:
        if life.failure is not None:
            outcome.failures[life.domain.name] = told(life.failure)
        elif not life.cancelled:
            outcome.results[life.domain.name] = life.result
    if trouble is not None and not outcome.failures:
        outcome.failures["xen"] = f"{type(trouble).__name__}: {trouble}"
    outcome.facts = {"clock": machine.xen.clock.name, "ns": machine.xen.clock.time_ns()}
    return outcome


backend: SimBackend = SimBackend()
"""What the entry point names: the simulator."""
