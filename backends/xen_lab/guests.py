"""The lab's guests: created when first needed, kept, and lent to scenarios.

Creating a guest takes seconds, so one that a scenario no longer needs stays for the next. It is
known by its label (`lab-pvh-1`) and renamed to what a scenario calls it, so that the halves find
each other in xenstore by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from activations.errors import BackendError
from xen_lab.commands import run
from xen_lab.control import Control
from xen_lab.machine import LINUX
from xen_lab.pace import GUEST

GuestKind = Literal["pvh", "pv"]
Progress = Callable[[str], None]

BOOTS = 3
"""How often a guest is started whose kernel crashes before anything of ours runs. An emulated CPU
that runs guests of its own is not reliable (see `Pool`); what crashes every time is reported."""

CONFIG = """\
name = "{label}"
type = "{kind}"
memory = {memory}
vcpus = 1
cpus = "{cpu}"
kernel = "/dev/vda"
ramdisk = "/dev/vdb"
extra = "{linux} loglevel=2"
tsc_mode = "native"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""
CREATE = """\
set -e
if [ ! -e /dev/vdb ]; then
    insmod /modules/virtio_blk.ko
    for slot in 03 04 05; do
        [ ! -e /sys/bus/pci/devices/0000:00:$slot.0 ] ||
            echo 0000:00:$slot.0 > /sys/bus/pci/drivers/virtio-pci/bind
    done
fi
mkdir -p /run/lab; printf %s "$2" > /run/lab/$1.cfg
xl create -q /run/lab/$1.cfg
domid=$(xl domid $1)
until tty=$(xenstore-read /local/domain/$domid/console/tty 2> /dev/null); do usleep 20000; done
echo $domid $tty
"""
SUSPEND = """\
set -e
cd /run/lab
sed 's/^name = .*/name = "restored"/' $2.cfg > restored.cfg
mkfifo image
xl restore restored.cfg image 2>&1 &
xl save $1 image 2>&1
rm image
wait $!
xl rename restored $3
domid=$(xl domid $3)
until tty=$(xenstore-read /local/domain/$domid/console/tty 2> /dev/null); do usleep 20000; done
echo $domid $tty
"""
"""Saves a guest and restores it, through a pipe: dom0 has no room for its memory. A live migration
would not do, Xen has none for PV guests here. Arguments: its domid, its label and its name."""


@dataclass(slots=True)
class Guest:
    """A guest of the lab."""

    label: str
    kind: GuestKind
    domid: int
    name: str


class Pool:
    """All guests of one lab.

    They share one processor, `cpu`, and run in turn. On two, QEMU's emulation loses a guest now and
    then while another one boots: Xen finds its own registers in the guest's place, and calls it a
    triple fault. Of rounds in which three guests were made at once, five of nine lost one; none of
    seven did on one processor.
    """

    def __init__(self, control: Control, memory: int, timeout: float, cpu: int) -> None:
        self._control = control
        self._memory = memory
        self._cpu = cpu
        self._timeout = timeout
        self._made = 0
        self._work = 0.0
        """Seconds that all guests created so far take to come up, on an idle machine."""
        self.guests: dict[str, Guest] = {}

    def assign(self, wanted: Mapping[str, GuestKind], progress: Progress) -> dict[str, Guest]:
        """A guest of the right kind for every name, created where there is none.

        They have their names, and nothing is left in their part of xenstore. Raises
        `BackendError` with the console's end if a guest does not come up in time.
        """
        self._drop_gone()
        began, work = time.monotonic(), self._work
        chosen: dict[str, Guest] = {}
        created: list[str] = []
        for name, kind in wanted.items():
            guest = self._free(name, kind, chosen)
            if guest is None:
                progress(f"creating {kind} guest {name}")
                guest = self._create(kind)
                created.append(name)
            chosen[name] = guest
        for name in created:
            chosen[name] = self._booted(chosen[name], progress)
        if created:
            self._control.pace.measured(time.monotonic() - began, self._work - work)
        self._prepare(chosen)
        return chosen

    def find(self, name: str) -> Guest | None:
        """The guest with this name or label."""
        by_name = {guest.name: guest for guest in self.guests.values()}
        return by_name.get(name) or self.guests.get(name)

    def suspend(self, guest: Guest) -> None:
        """Save a guest and restore it, which makes another domain of it.

        What runs in it goes on. Raises `BackendError` if it fails, and the guest is lost: it may
        be what it was, half of another one, or neither.
        """
        self._control.call("dom0", "detach", label=guest.label, timeout=self._timeout)
        argv = ["sh", "-c", SUSPEND, "suspend", str(guest.domid), guest.label, guest.name]
        status, output = run(self._control, "dom0", argv, timeout=self._timeout)
        if status:
            self._end(guest, "restored")
            raise BackendError(f"cannot suspend {guest.name}: {output.decode().strip()}")
        self._attach(guest, output)

    def replace(self, guest: Guest, progress: Progress) -> Guest:
        """Destroy a guest, and make another in its place, by its name. What the dead has left with
        others stays there: nobody tidies up."""
        self.destroy(guest)
        new = self._booted(self._create(guest.kind), progress)
        argv = ["xl", "rename", str(new.domid), guest.name]
        status, output = run(self._control, "dom0", argv, timeout=self._timeout)
        if status:
            raise BackendError(f"cannot rename {new.label}: {output.decode().strip()}")
        new.name = guest.name
        return new

    def destroy(self, guest: Guest) -> None:
        """End a guest for good: it hangs, or crashed, or is to. What its console had passed on by
        then is heard."""
        self._end(guest)
        self._control.call("dom0", "detach", label=guest.label, timeout=self._timeout)

    def _end(self, guest: Guest, *others: str) -> None:
        """Destroy its domain, and others by their names, which may be gone; forget it."""
        for domain in (str(guest.domid), *others):
            run(self._control, "dom0", ["xl", "destroy", domain], timeout=self._timeout)
        self._control.lose(guest.label)
        self.guests.pop(guest.label, None)

    def _free(self, name: str, kind: GuestKind, taken: Mapping[str, Guest]) -> Guest | None:
        used = {guest.label for guest in taken.values()}
        free = [g for g in self.guests.values() if g.kind == kind and g.label not in used]
        free.sort(key=lambda guest: guest.name != name)
        return free[0] if free else None

    def _drop_gone(self) -> None:
        for label in self._control.gone & self.guests.keys():
            del self.guests[label]

    def _create(self, kind: GuestKind) -> Guest:
        self._made += 1
        self._work += GUEST[kind]
        label = f"lab-{kind}-{self._made}"
        config = CONFIG.format(
            label=label, kind=kind, memory=self._memory, cpu=self._cpu, linux=LINUX
        )
        argv = ["sh", "-c", CREATE, "create", label, config]
        status, output = run(self._control, "dom0", argv, timeout=self._timeout)
        if status:
            raise BackendError(f"cannot create a {kind} guest: {output.decode().strip()}")
        guest = self.guests[label] = Guest(label, kind, 0, label)
        self._attach(guest, output)
        return guest

    def _attach(self, guest: Guest, output: bytes) -> None:
        """Take the domid and the console that a script printed last."""
        domid, tty = output.split()[-2:]
        guest.domid = int(domid)
        words = {"label": guest.label, "path": tty.decode()}
        self._control.call("dom0", "attach", timeout=self._timeout, **words)

    def _booted(self, guest: Guest, progress: Progress) -> Guest:
        """The guest once it is up, or another in its place: see `BOOTS`."""
        for boot in range(1, BOOTS + 1):
            label = guest.label
            self._control.wait(partial(self._settled, label), self._timeout)
            if label in self._control.hellos:
                return guest
            crashed = label in self._control.gone
            what = (
                "crashed as it booted"
                if crashed
                else f"not up {self._control.pace.within(self._timeout)}"
            )
            text = self._control.explain(label, what)
            self.destroy(guest)
            if not crashed or boot == BOOTS:
                raise BackendError(text)
            progress(f"{label} crashed before its first program ran; starting another")
            guest = self._create(guest.kind)
        raise AssertionError("the last boot either came up or raised")

    def _settled(self, label: str) -> bool:
        """Whether a new guest came up, or never will."""
        return label in self._control.hellos or label in self._control.gone

    def _prepare(self, chosen: Mapping[str, Guest]) -> None:
        """Give the chosen their names, take these from all others, and clean xenstore."""
        names = {guest.label: name for name, guest in chosen.items()}
        renamed = {}
        for guest in self.guests.values():
            kept = guest.label if guest.name in chosen else guest.name
            name = names.get(guest.label, kept)
            if name != guest.name:
                renamed[str(guest.domid)] = guest.name = name
        self._control.call("dom0", "tidy", names=renamed, timeout=self._timeout)
