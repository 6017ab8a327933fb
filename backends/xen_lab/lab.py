"""A real Xen, booted once, that runs scenarios, commands and programs in its domains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from activations.errors import BackendError
from activations.outcome import Observer, Outcome
from activations.scenario import Scenario
from activations.trace import Trace
from xen_lab import cache, commands, emulator, image, shipment
from xen_lab.control import Control
from xen_lab.guests import Guest, Pool
from xen_lab.machine import Machine, Shape, Xenstored
from xen_lab.pace import BOOT, Pace
from xen_lab.running import Run


class Lab:
    """A Xen under QEMU, up while its `with` block lasts.

        with Lab() as lab:
            outcome = lab.run(scenario, observer)
            status, output = lab.shell("dom0", ["xl", "list"])

    One boot serves any number of runs; guests are created when first needed and kept. Not for
    more than one thread: QEMU ends with the thread that booted it.

    `extra_files` maps paths in the domains to bytes, or to files of this machine. Timeouts, here
    and in the methods, are in seconds as an idle machine has them: a lab that is slower, because
    its machine is or has other work, waits so many times longer (`pace`). `boot_timeout` is for
    Xen and dom0, in seconds in which there was a processor for them; `guest_timeout` for a guest,
    `run_timeout` for a scenario (None: as long as it takes).
    `guest_memory` is in MiB. With `command`, the domains have the command `activations` too.
    `xenstored` is the program that keeps xenstore: Xen's in C, or `oxenstored`, in OCaml.
    `cache_folder` is where the image is kept. `progress` hears of what takes long.
    """

    def __init__(
        self,
        *,
        extra_files: Mapping[str, bytes | Path] | None = None,
        boot_timeout: float = 120.0,
        guest_timeout: float = 120.0,
        run_timeout: float | None = 600.0,
        guest_memory: int = 384,
        command: bool = False,
        shape: Shape | None = None,
        xenstored: Xenstored = "xenstored",
        cache_folder: Path | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._extra_files = dict(extra_files or {})
        self._boot_timeout = boot_timeout
        self._guest_timeout = guest_timeout
        self._run_timeout = run_timeout
        self._guest_memory = guest_memory
        self._command = command
        self._shape = shape or Shape()
        self._xenstored = xenstored
        self._cache = cache_folder or cache.default()
        self._progress = progress
        self._stack = ExitStack()
        self._pace = Pace()
        self._control: Control | None = None
        self._machine: Machine | None = None
        self._pool: Pool | None = None
        self._sent: set[tuple[str, str]] = set()  # domain and digest of what lies there
        self.facts: dict[str, Any] = {}
        """Versions: `xen`, `linux`, `python`, `qemu`."""
        self.packages: dict[str, str] = {}
        """Debian's version of every package in the image."""

    def __enter__(self) -> Lab:
        with ExitStack() as stack:
            self._boot(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the machine and all in it. May be called twice."""
        self._stack.close()
        self._machine = self._control = self._pool = None

    @property
    def up(self) -> bool:
        """Whether the machine runs."""
        return self._machine is not None and self._machine.running

    @property
    def pace(self) -> float:
        """How many times longer all takes in this lab than in one on an idle machine of two cores:
        1.0 there, and never less. Measured by the boot and anew by each making of guests, as work
        on this machine comes and goes.

        Programs and halves in the lab find it in their environment, as `XEN_LAB_PACE`: what waits
        for the machine, and not for a rule, waits so many times longer.
        """
        return self._pace.factor

    def patience(self, seconds: float) -> float:
        """How long to wait, in this lab, for what takes `seconds` at most on an idle machine."""
        return self._pace.patience(seconds)

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        self._up()
        assert self._machine is not None
        return self._machine.pid

    def run(
        self,
        scenario: Scenario,
        observer: Observer,
        *,
        timeout: float | None = None,
        traced: Callable[[Trace], None] | None = None,
        record: Path | None = None,
    ) -> Outcome:
        """Run a scenario's halves in dom0 and in guests, to their end; `traced` is given a trace of
        all of them. `record` names their recordings: for `run.rec`, `run.dom0.rec` and so on.

        A half that raises, is killed, loses its guest or outlives `timeout` is in the
        outcome's `failures`; the others are then ended. Raises `BackendError` for what keeps the
        scenario from running at all.
        """
        control, pool = self._up()
        bundle = shipment.bundle(scenario)
        run = Run(
            control,
            pool,
            scenario,
            bundle,
            observer,
            self._sent,
            trace=traced is not None,
            record=record,
        )
        try:
            outcome = run.to_the_end(self._run_timeout if timeout is None else timeout)
        finally:
            if traced is not None and (trace := run.trace()).events:
                traced(trace)
        outcome.facts = {**self.facts, **outcome.facts}
        return outcome

    def shell(
        self,
        domain: str,
        argv: Sequence[str],
        timeout: float = 60.0,
        *,
        env: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Run a command in a domain: its exit status, and what it printed on either stream."""
        control, label = self.reach(domain)
        status, output = commands.run(control, label, argv, timeout=timeout, env=env)
        return status, output.decode(errors="backslashreplace")

    def start(
        self, domain: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> commands.Program:
        """Start a program in a domain, and go on while it runs: see what it says, send it signals,
        wait for its end."""
        control, label = self.reach(domain)
        return commands.Program(control, label, argv, env=env)

    def put(
        self, domain: str, path: str, data: bytes, *, mode: int = 0o755, timeout: float = 60.0
    ) -> None:
        """Write a file in a domain. `timeout` is for each piece of 24 KiB."""
        control, label = self.reach(domain)
        commands.put(control, label, path, data, mode=mode, timeout=timeout)

    def fetch(self, domain: str, path: str, *, timeout: float = 60.0) -> bytes:
        """A file of a domain. Raises `BackendError` if it is not there."""
        control, label = self.reach(domain)
        return commands.fetch(control, label, path, timeout=timeout)

    def guests(self, wanted: Mapping[str, Any]) -> dict[str, int]:
        """Have guests of these names and kinds (`pvh`, `pv`); give their domids."""
        _, pool = self._up()
        return {name: g.domid for name, g in pool.assign(wanted, self._progress).items()}

    def suspend(self, name: str) -> int:
        """Save a guest and restore it (`xl save`, `xl restore`); its domid from now on. What runs
        in it goes on, and was suspended. Not while a scenario runs."""
        pool, guest = self._guest(name)
        pool.suspend(guest)
        return guest.domid

    def replace(self, name: str) -> int:
        """Destroy a guest in the midst of whatever it does (`xl destroy`), and boot another in its
        place, by its name; the new one's domid. Nothing runs in it. What the dead has left with
        other domains, in xenstore for one, stays. Not while a scenario runs."""
        pool, guest = self._guest(name)
        return pool.replace(guest, self._progress).domid

    def reach(self, domain: str) -> tuple[Control, str]:
        """The control channel, and the label by which it knows this domain."""
        control, pool = self._up()
        if domain == "dom0":
            return control, domain
        guest = pool.find(domain)
        if guest is None:
            known = ", ".join(["dom0", *(g.name for g in pool.guests.values())])
            raise BackendError(f"the lab has no domain {domain!r}; it has: {known}")
        return control, guest.label

    def _boot(self, stack: ExitStack) -> None:
        stack.enter_context(cache.in_use(self._cache))
        found = image.ensure(self._progress, self._cache)
        qemu, version = emulator.ensure(self._progress, self._cache)
        overlay = shipment.overlay(self._extra_files, command=self._command)
        self._progress(f"booting Xen {found.xen_version} under QEMU {version}")
        self._machine = Machine(qemu, found, overlay, self._shape, self._xenstored)
        stack.callback(self._machine.close)
        self._control = Control(self._machine, self._pace)
        began = time.monotonic()
        if not self._control.wait_for_boot(self._boot_timeout):
            text = f"not up within {self._boot_timeout:.0f} s"
            raise BackendError(self._control.explain("dom0", text))
        self._pace.measured(time.monotonic() - began, BOOT)
        self.facts = {**self._control.hellos["dom0"], "qemu": version}
        self.packages = found.versions
        last = self._shape.cpus - 1
        self._pool = Pool(self._control, self._guest_memory, self._guest_timeout, cpu=last)

    def _guest(self, name: str) -> tuple[Pool, Guest]:
        _, pool = self._up()
        guest = pool.find(name)
        if guest is None:
            raise BackendError(f"the lab has no guest {name!r}")
        return pool, guest

    def _up(self) -> tuple[Control, Pool]:
        if self._control is None or self._pool is None:
            raise BackendError("the lab is not up: use it in a `with` block")
        return self._control, self._pool
