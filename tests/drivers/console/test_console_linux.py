"""A Linux guest's consoles, served by Python in dom0, on a real Xen."""

from __future__ import annotations

import pytest
from support.places import PEERS

import xen_lab
from activations import scenario
from xen_lab import Lab

HERE = PEERS / "linux_console"


@pytest.mark.lab
@pytest.mark.own_lab
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_boot_of_a_guest_is_read_and_a_command_typed_at_its_shell(lab_parts: None) -> None:
    """In a lab of its own: xenconsoled, which other guests need, gives way."""
    with Lab() as lab, xen_lab.backend.using(lab):
        said = scenario.load(str(HERE / "first.py")).run("lab")["dom0"]
    assert "Linux version 6.1" in said["log"]
    assert "Run /bb/sh as init process" in said["log"]
    assert "\r\nsix times seven is 42" in said["said"]


@pytest.mark.lab
def test_what_a_guest_writes_to_hvc1_comes_back(lab: Lab) -> None:
    scenario.load(str(HERE / "further.py")).run("lab")
