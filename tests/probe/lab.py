"""The probe on a real Xen: a guest that does what its module says, and what it said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xen_oracle.program import Step

from xen_lab import Lab

from . import module
from .module import Answer
from .programs import Asked, Guest

HERE = "/tmp/probe"
STATES = ("booting", "running", "done", "trapped", "its report is full")
DONE = 2
GUEST = f"""\
type = "pvh"
memory = 32
vcpus = {{vcpus}}
cpus = "1"
max_event_channels = {{max_event_channels}}
max_grant_frames = 2
max_grant_version = 1
kernel = "{HERE}/probe"
ramdisk = "{{folder}}/module"
tsc_mode = "native"
on_poweroff = "preserve"
on_crash = "preserve"
"""
IN_DOM0 = Path(__file__).with_name("in_dom0.py")
SECONDS = 120.0


class Report(NamedTuple):
    """What a guest left in its memory."""

    domid: int
    state: str
    words: tuple[int, ...]
    """The task's own."""
    rest: bytes
    printed: str
    """By xl, of a guest that still ran."""


class Probe:
    """Makes probes in a lab, one after the other."""

    def __init__(self, lab: Lab, kernel: bytes) -> None:
        self._lab = lab
        lab.put("dom0", f"{HERE}/probe", kernel)
        lab.put("dom0", f"{HERE}/in_dom0.py", IN_DOM0.read_bytes())

    def programs(self, asked: Sequence[Asked]) -> list[tuple[int, list[Answer]]]:
        """Of each guest, one after the other: its domid, and what became of each step."""
        tasks = [
            (guest, module.programs(guest.delivery, guest.vcpus, steps)) for guest, steps in asked
        ]
        return [
            (report.domid, _answers(report, guest, steps))
            for report, (guest, steps) in zip(self._run(tasks), asked, strict=True)
        ]

    def run(self, guest: Guest, task: bytes) -> Report:
        """A guest with this module. It is gone when this returns."""
        return self._run([(guest, task)])[0]

    def _run(self, asked: Sequence[tuple[Guest, bytes]]) -> list[Report]:
        folders = [f"{HERE}/{number}" for number in range(len(asked))]
        for folder, (guest, task) in zip(folders, asked, strict=True):
            configuration = GUEST.format(folder=folder, **guest._asdict())
            self._lab.put("dom0", f"{folder}/guest", configuration.encode())
            self._lab.put("dom0", f"{folder}/module", task)
            if guest.peer:
                configuration = GUEST.format(folder=f"{folder}/of_peer", **guest._asdict())
                self._lab.put("dom0", f"{folder}/peer", configuration.encode())
                given = module.module(module.PEER, "none", 1)
                self._lab.put("dom0", f"{folder}/of_peer/module", given)
        seconds = str(self._lab.patience(SECONDS))
        argv = ["python3", f"{HERE}/in_dom0.py", seconds, *folders]
        status, printed = self._lab.shell("dom0", argv, timeout=2 * len(asked) * SECONDS)
        assert status == 0, printed
        said = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
        return [self._report(folder, *each) for folder, each in zip(folders, said, strict=True)]

    def _report(self, folder: str, domid: int, printed: str) -> Report:
        report = self._lab.fetch("dom0", f"{folder}/report")
        _, state, _, *words = module.HEADER.unpack_from(report)
        rest = report[module.HEADER.size :]
        return Report(domid, STATES[state], tuple(words), rest, printed)


def _answers(report: Report, guest: Guest, steps: Sequence[Step]) -> list[Answer]:
    answers = list(module.answers(report.rest, steps, guest.vcpus))
    assert report.state == STATES[DONE], (
        f"{report.state} at step {report.words[1]} of {len(steps)}, {len(answers)} answers; "
        f"words {list(map(hex, report.words))}; {report.printed}"
    )
    return answers
