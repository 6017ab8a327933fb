"""What the entry point `lab` names: scenarios on a real Xen, and what that needs of a machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from activations.backend import Check, Observer, Outcome, RunOptions, refuse
from activations.errors import BackendError
from activations.scenario import Scenario
from xen_lab import image, machine, recipe
from xen_lab.lab import Lab


class LabBackend:
    """Runs scenarios on a lab booted for the run, or on one that is up (`using`)."""

    name = "lab"
    protocol_version = 1

    def __init__(self) -> None:
        self._lab: Lab | None = None

    @contextmanager
    def using(self, lab: Lab) -> Iterator[Lab]:
        """Inside the block, scenarios run on this lab instead of one booted for each."""
        before, self._lab = self._lab, lab
        try:
            yield lab
        finally:
            self._lab = before

    def new_event_loop(self, **options: Any) -> NoReturn:
        """Raises `BackendError`: domains of the lab run on other (emulated) machines."""
        raise BackendError(
            "backend 'lab' has no loop for this process: it runs scenarios, in the domains of an "
            "emulated machine (activations run FILE --backend lab)"
        )

    def run(self, scenario: Scenario, options: RunOptions, observer: Observer) -> Outcome:
        """Run a scenario on a real Xen. Raises `BackendError` if it cannot."""
        _refuse(options)
        if self._lab is not None and self._lab.up:
            return self._lab.run(scenario, observer)
        with Lab(progress=observer.progress) as lab:
            return lab.run(scenario, observer)

    def doctor(self) -> Sequence[Check]:
        """What making and booting the lab needs."""
        return [*_apt_checks(), _qemu_check(), _room_check(), _image_check()]


backend = LabBackend()


def _refuse(options: RunOptions) -> None:
    reality = "a real Xen is neither seeded nor traced"
    refuse("lab", {"seed": options.seed, "trace": options.trace}, reality)
    if options.clock == "virtual":
        refuse("lab", {"clock": "virtual"}, "a real Xen has real time")
    refuse("lab", {"only": options.only}, "it boots every domain of the scenario itself")


def _apt_checks() -> Iterator[Check]:
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        path = shutil.which(tool)
        mend = "" if path else f"install {package}, or use a Debian machine or container"
        yield Check(f"{tool}, to fetch Debian's packages", path is not None, path or "", mend)


def _qemu_check() -> Check:
    what = "QEMU for x86-64, older than 10"
    try:
        version = machine.find().version()
    except BackendError as error:
        return Check(what, False, str(error), machine.MEND)
    if int(version.partition(".")[0]) >= machine.FAULTY_FROM:
        return Check(what, False, f"{version}: PVH guests die on it", "install QEMU 7.2 to 9.2")
    return Check(what, True, version)


def _room_check() -> Check:
    what = f"{image.NEEDED >> 20} MB of disk for the lab's image"
    folder = image.cache_folder()
    present = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(present).free
    ok = free >= image.NEEDED or image.cached() is not None
    mend = "" if ok else "set XDG_CACHE_HOME to a folder with more room"
    return Check(what, ok, f"{free >> 20} MB free at {present}", mend)


def _image_check() -> Check:
    found = image.cached()
    if found is None:
        return Check("the lab's image", True, "none yet: made at the first run, in a minute")
    names = (recipe.XEN, recipe.PYTHON, found.linux_package)
    said = ", ".join(f"{name} {found.versions[name]}" for name in names)
    return Check("the lab's image", True, f"{said} in {found.folder}")
