"""The backend `linux`: the domain that this process runs in, through the devices of its kernel.

One process serves one domain. A scenario has several, so here it runs one of its halves at a
time: the others are started, with the same file, in the other domains of the same Xen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from activations import traced, watched
from activations.backend import Check, new_generation, refuse
from activations.errors import BackendError
from activations.loop import EventLoop
from activations.lower import Clock
from activations.outcome import Observer, Outcome, RunOptions
from activations.recording.session import Recorder, recorded
from activations.registry import PROTOCOL_VERSION
from activations.running import program, told
from activations.scenario import Half, Scenario
from activations.store.descriptor import DescriptorConnection
from activations.trace import Notes, Trace, writer
from xen_linux import doctor
from xen_linux.evtchn import EventDevice
from xen_linux.grants import LinuxGrantTable
from xen_linux.identity import identify, is_control_domain
from xen_linux.lower import LinuxLowerHalf
from xen_linux.resume import Resumes
from xen_linux.store import open_connection

if TYPE_CHECKING:
    from activations.evtchn.listing import PortState


class LinuxBackend:
    """Made once, as `xen_linux.backend`; it has no state."""

    name = "linux"
    protocol_version = PROTOCOL_VERSION

    def new_event_loop(
        self,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        name: str | None = None,
        trace: Notes | None = None,
        recorder: Recorder | None = None,
    ) -> EventLoop:
        """A loop for this domain. `clock` may be `wall`, the only one there is; `name` is what to
        call it (else what xenstore calls it); `trace` is told what happens, `recorder` what the
        domain takes in.

        Raises `BackendError` on a machine without Xen, for another clock, and for a seed.
        """
        if clock not in (None, "wall"):
            refuse(self.name, {"clock": clock}, "a real Xen runs on the wall clock")
        refuse(self.name, {"seed": seed}, "it belongs to simulations")
        lower = new_lower_half(name)
        note: traced.Note | None = None
        if trace is not None:
            note = traced.trace(lower, lambda: loop.domain.events.ports, trace)
        if recorder is not None:
            loop: EventLoop = recorder.make_loop(lower)
        else:
            loop = EventLoop(lower)
            lower.resumed = partial(new_generation, loop)
        if note is not None:
            noting, resumed = note, lower.resumed
            lower.resumed = lambda: (noting("suspend"), resumed())
        return loop

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """Run one half, named by `options.only`, in this domain; its output is this process's."""
        if options.only is None:
            raise BackendError(
                f"backend 'linux' runs one half of {scenario.name!r} in the domain it is started "
                f"in: say which with --as, one of {', '.join(scenario.halves)}"
            )
        half = scenario.half(options.only)
        refuse(self.name, options.simulated, "a real Xen has no tape, and is what it is")
        outcome = Outcome(facts={"domain": half.name})
        trace = Trace() if options.trace else None
        write = writer(options.trace, scenario.name) if options.trace else None

        def perform(recorder: Recorder | None = None) -> None:
            def make_loop() -> EventLoop:
                name, clock = half.name, options.clock
                return self.new_event_loop(name=name, clock=clock, trace=trace, recorder=recorder)

            with watched.asked(options.top), asyncio.Runner(loop_factory=make_loop) as runner:
                main = _main(half, runner.get_loop())
                try:
                    outcome.results[half.name] = runner.run(main)
                except (Exception, SystemExit) as error:
                    outcome.failures[half.name] = told(error)

        try:
            if options.record is None:
                perform()
            else:
                with recorded(options.record, scenario, half.name) as recorder:
                    perform(recorder)
        finally:
            if trace is not None and write is not None and trace.events:
                write(trace)
        return outcome

    def open_store(self) -> DescriptorConnection:
        """A connection to this domain's xenstore, for any asyncio loop; `BackendError` if there is
        none. Needs neither event channels nor grants."""
        return open_connection()

    def event_channels(self, domid: int | None, *, bits: bool = False) -> Sequence[PortState]:
        """The ports of this domain, or of the one this is, as Xen has them."""
        from xen_linux import listing

        return listing.event_channels(domid, bits=bits)

    def port_holders(self) -> Mapping[str, int]:
        """Which programs of this domain have event channels, and how many each."""
        from xen_linux import listing

        return listing.port_holders()

    def doctor(self) -> Sequence[Check]:
        """Whether this machine is a Xen domain with all the devices."""
        return doctor.examine()


def new_lower_half(name: str | None = None) -> LinuxLowerHalf:
    """The lower half of the domain this process runs in; `BackendError` if that is none."""
    events = EventDevice()
    try:
        here = identify()
        resumes = None if is_control_domain() else Resumes()  # that one is never suspended
    except BaseException:
        events.close()
        raise
    table = LinuxGrantTable(here.domid, here.guest_type)
    return LinuxLowerHalf(here.domid, name or here.name, events, table, resumes)


async def _main(half: Half, loop: asyncio.AbstractEventLoop) -> Any:
    assert isinstance(loop, EventLoop)
    return await program(half.main, loop.domain)


backend: LinuxBackend = LinuxBackend()
"""What the entry point names: the domain that this process runs in."""
