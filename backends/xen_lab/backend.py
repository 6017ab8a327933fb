"""What the entry point `lab` names: scenarios on a real Xen, and what that needs of a machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from activations.backend import Check, Kept, refuse
from activations.errors import BackendError
from activations.lower import Clock
from activations.outcome import Observer, Outcome, RunOptions
from activations.scenario import Scenario
from activations.trace import writer
from xen_lab import cache, emulator, image, packages, recipe, stock
from xen_lab.lab import Lab
from xen_lab.machine import LENT, Shape
from xen_lab.shell import interactive


class LabBackend:
    """Runs scenarios on a lab booted for the run, or on one that is up (`using`)."""

    name = "lab"
    protocol_version = 1

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._disk: Path | None = None

    @contextmanager
    def using(self, lab: Lab) -> Iterator[Lab]:
        """Inside the block, scenarios run on this lab instead of one booted for each."""
        before, self._lab = self._lab, lab
        try:
            yield lab
        finally:
            self._lab = before

    @contextmanager
    def lending(self, file: Path) -> Iterator[Path]:
        """Inside the block, scenarios run on labs whose dom0 has this file as a block device, to
        be read only; its path there is given. Of any size: it is not copied.

        Raises `BackendError` where scenarios run on a lab that is up (`using`).
        """
        if self._lab is not None and self._lab.up:
            raise BackendError(f"{file} cannot be lent to a lab that is up, only to one that boots")
        self._disk = file
        try:
            yield Path(LENT)
        finally:
            self._disk = None

    def new_event_loop(self, *, clock: Clock | None = None, seed: int | None = None) -> NoReturn:
        """Raises `BackendError`: domains of the lab run on other (emulated) machines."""
        raise BackendError(
            "backend 'lab' has no loop for this process: it runs scenarios, in the domains of an "
            "emulated machine (activations run FILE --backend lab)"
        )

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """Run a scenario on a real Xen. Raises `BackendError` if it cannot."""
        _refuse(options)
        write = writer(options.trace, scenario.name) if options.trace else None
        if self._lab is not None and self._lab.up:
            return self._lab.run(scenario, observer, traced=write, record=options.record)
        with Lab(progress=observer.progress, shape=Shape(disk=self._disk)) as lab:
            return lab.run(scenario, observer, traced=write, record=options.record)

    def doctor(self) -> Sequence[Check]:
        """What making and booting the lab needs."""
        folder = cache.default()
        return [*_apt_checks(), _qemu_check(folder), _room_check(folder), _image_check(folder)]

    def shell(self, domain: str, observer: Observer) -> int:
        """A shell on this terminal in `dom0`, or in a guest made for it: `pvh` or `pv`.

        Gives its exit status. Raises `BackendError` if there can be none.
        """
        with Lab(command=True, progress=observer.progress) as lab:
            if domain in ("pvh", "pv"):
                lab.guests({domain: domain})
            return interactive(lab, domain)

    def kept(self) -> Sequence[Kept]:
        """What is in the cache."""
        return stock.kept(cache.default())

    def refresh(self, observer: Observer) -> Sequence[str]:
        """Take newer packages, where Debian has such: a line for each. `BackendError` if it cannot
        be asked, or a lab runs."""
        return stock.refresh(observer.progress, cache.default())

    def clean(self, *, old: bool) -> Sequence[Kept]:
        """Free the cache, or what in it is `old`; give what was removed. `BackendError` if a lab
        runs."""
        return stock.clean(cache.default(), old=old)


backend: LabBackend = LabBackend()
"""What the entry point names: the emulated Xen."""


def _refuse(options: RunOptions) -> None:
    refuse("lab", options.simulated, "a real Xen is not seeded, and is what it is")
    if options.clock == "virtual":
        refuse("lab", {"clock": "virtual"}, "a real Xen has real time")
    refuse("lab", {"top": options.top or None}, "its domains are in other machines")
    refuse("lab", {"only": options.only}, "it boots every domain of the scenario itself")


def _apt_checks() -> Iterator[Check]:
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        path = shutil.which(tool)
        mend = "" if path else f"install {package}, or use a Debian machine or container"
        yield Check(f"{tool}, to fetch Debian's packages", path is not None, path or "", mend)
    named = packages.sources()
    mend = "" if named else packages.NAME_SOURCES
    yield Check("Debian 12's packages", bool(named), named or "another release", mend)


def _qemu_check(folder: Path) -> Check:
    what = f"QEMU for x86-64, older than {emulator.FAULTY_FROM}"
    found = emulator.installed()
    if found is not None and emulator.serves(version := found.version()):
        return Check(what, True, f"{version} at {found.command[0]}")
    if kept := emulator.fetched(folder):
        return Check(what, True, f"{kept.version()}, fetched")
    why = f"{version} is too new" if found is not None else "not installed"
    can_fetch = shutil.which("apt-get") is not None
    said = f"{why}; fetched at the first run (40 MB)" if can_fetch else why
    return Check(what, can_fetch, said, "" if can_fetch else emulator.MEND)


def _room_check(folder: Path) -> Check:
    what = f"{cache.NEEDED >> 20} MB of disk for the lab's image"
    present = next(place for place in (folder, *folder.parents) if place.exists())
    if not (present.is_dir() and os.access(present, os.W_OK | os.X_OK)):
        mend = "set XDG_CACHE_HOME to a folder of yours"
        return Check(what, False, f"{present} cannot be written to", mend)
    free = shutil.disk_usage(present).free
    ok = free >= cache.NEEDED or image.cached(folder) is not None
    mend = "" if ok else "set XDG_CACHE_HOME to a folder with more room"
    return Check(what, ok, f"{free >> 20} MB free at {present}", mend)


def _image_check(folder: Path) -> Check:
    found = image.cached(folder)
    if found is None:
        return Check("the lab's image", True, "none yet: made at the first run, in a minute")
    names = (recipe.XEN, recipe.PYTHON, found.linux_package)
    said = ", ".join(f"{name} {found.versions[name]}" for name in names)
    return Check("the lab's image", True, f"{said} in {found.folder}")
