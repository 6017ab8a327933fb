"""What a program of a real guest sees as the guest is saved and restored, or migrated."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from support.places import PEERS

from activations import BackendError
from xen_lab import Lab
from xen_lab.commands import Program

pytestmark = [pytest.mark.lab, pytest.mark.own_lab]  # with guests that nothing has run in

PROGRAM = PEERS / "lab_only" / "outlives.py"
RING = """\
import sys
from xen_linux import EventDevice

with EventDevice() as device:
    device.notify(device.bind_interdomain(int(sys.argv[1]), int(sys.argv[2])))
"""


class Outliving:
    """The program, running in a guest; with a disk that is served from Python in dom0, or none."""

    def __init__(self, lab: Lab, kind: str, *, disk: bool) -> None:
        self._lab = lab
        self._disk = disk
        self._served: Program | None = None
        self.domid = lab.guests({"guest": kind})["guest"]  # type: ignore[dict-item]
        lab.put("guest", "/run/outlives.py", PROGRAM.read_bytes())
        lab.put("dom0", "/run/ring.py", RING.encode())
        self.dom0("printf hello > /run/disk.img; truncate -s 64K /run/disk.img")
        words = "disk" if disk else ""
        self.guest(f"python3 -P /run/outlives.py {words} > /run/said 2>&1 & echo $! > /run/pid")

    def dom0(self, script: str) -> str:
        return self._done("dom0", script)

    def guest(self, script: str) -> str:
        return self._done("guest", script)

    def _done(self, domain: str, script: str) -> str:
        status, output = self._lab.shell(domain, ["sh", "-c", script], timeout=120)
        assert status == 0, output
        return output

    def generation(self, number: int) -> None:
        """Wait until the program has begun it, in the domain that the guest is now."""
        if self._disk:
            self._serve()
            self.says("the disk says hello")
        self.says(f"generation {number} of domain {self.domid}")

    def hears(self, number: int) -> None:
        """An event, and a change in the store, in this generation."""
        port = self.dom0(f"xenstore-read /local/domain/{self.domid}/data/port").strip()
        ringing = ["python3", "-P", "/run/ring.py", str(self.domid), port]
        assert self._lab.shell("dom0", ringing) == (0, "")
        self.says(f"event of generation {number}")
        self.dom0(f"xenstore-write /local/domain/{self.domid}/data/word word-{number}")
        self.says(f"word word-{number}")

    def _serve(self) -> None:
        words = ["block", str(self.domid), "/run/disk.img", "--as", "xvdc"]
        self._served = self._lab.start("dom0", ["activations", "attach", *words])

    def suspend(self) -> None:
        before = self.domid
        self.domid = self._lab.suspend("guest")
        assert self.domid != before

    def says(self, line: str) -> None:
        """Wait until the program has printed this."""
        waiting = f"""
            until grep -qx '{line}' /run/said; do
                kill -0 $(cat /run/pid) || exit
                usleep 100000
            done
            """
        try:
            came = self._lab.shell("guest", ["sh", "-c", waiting], timeout=60)[0] == 0
        except BackendError:
            came = False
        if not came:
            said = self.guest("cat /run/said")
            if self._served:
                said += self._served.output.decode()
            raise AssertionError(f"{line!r} never came; the program printed:\n{said}")

    def close(self) -> None:
        self.guest("kill -9 $(cat /run/pid) || true")
        if self._served:
            self._served.signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def own_lab(lab_parts: None) -> Iterator[Lab]:
    with Lab(command=True, guest_memory=256) as booted:  # all of it is saved and restored
        yield booted


@pytest.fixture(
    params=[
        ("pvh", False),
        pytest.param(("pvh", True), marks=pytest.mark.long),
        pytest.param(("pv", True), marks=pytest.mark.long),
    ],
    ids=["pvh", "pvh-with-a-disk", "pv-with-a-disk"],
)
def program(own_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Outliving]:
    kind, disk = request.param
    program = Outliving(own_lab, kind, disk=disk)
    yield program
    program.close()


def begins_anew(program: Outliving, number: int) -> None:
    program.suspend()
    program.says("the port.s generation ended")
    program.says("the store ended: .*(the domain was suspended)")
    program.generation(number)
    program.hears(number)


def test_ports_the_store_and_devices_begin_a_new_generation(program: Outliving) -> None:
    program.generation(0)
    begins_anew(program, 1)
    log = program.guest(
        "kill $(cat /run/pid); while kill -0 $(cat /run/pid); do usleep 50000; done;"
        "dmesg | grep -E -A20 'kernel BUG|Oops|WARNING' || echo well"
    )
    assert log.split()[-1] == "well", log


@pytest.mark.long
def test_a_suspend_that_was_called_off_ends_nothing(program: Outliving) -> None:
    program.generation(0)
    program.dom0(f"xl save -c {program.domid} /dev/null")
    program.hears(0)
    assert "ended" not in program.guest("cat /run/said")
    begins_anew(program, 1)
    begins_anew(program, 2)


@pytest.mark.long
def test_a_suspend_that_fails_costs_the_guest_and_not_the_lab(own_lab: Lab) -> None:
    before = own_lab.guests({"guest": "pvh"})["guest"]
    own_lab.shell("dom0", ["sh", "-c", "rm /run/lab/lab-pvh-*.cfg"])
    with pytest.raises(BackendError, match="cannot suspend guest"):
        own_lab.suspend("guest")
    assert own_lab.guests({"guest": "pvh"})["guest"] != before
    assert own_lab.shell("guest", ["true"])[0] == 0
