"""A guest that is destroyed in the midst of what it does, and another one in its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from activations import BackendError
from xen_lab.control import Control
from xen_lab.guests import Pool
from xen_lab.machine import Machine
from xen_lab.pace import Pace


class Xl:
    """Runs dom0's commands, in so far as it notes them; each guest has a number of its own."""

    def __init__(self) -> None:
        self.said: list[Sequence[str]] = []
        self.made = 0
        self.refuses = ""

    def __call__(
        self, control: Control, label: str, argv: Sequence[str], **how: Any
    ) -> tuple[int, bytes]:
        if argv[0] == "sh":
            self.made += 1
            return 0, f"{self.made} /dev/pts/0".encode()
        self.said.append(argv)
        return (1, b"no") if argv[1] == self.refuses else (0, b"")


class Mute(Control):
    """Whoever is asked does not answer."""

    def __init__(self) -> None:
        machine = SimpleNamespace(pid=os.getpid(), console=lambda: "")
        super().__init__(cast("Machine", machine), Pace())
        self.asked: list[str] = []

    def call(self, domain: str, do: str, **words: Any) -> dict[str, Any]:
        self.asked.append(do)
        return {}

    def _send(self, message: object) -> None:
        pass


class Up(Pool):
    """Guests come up at once."""

    def _settled(self, label: str) -> bool:
        self._control.hellos[label] = {}
        return True


@pytest.fixture
def xl(monkeypatch: pytest.MonkeyPatch) -> Xl:
    commands = Xl()
    monkeypatch.setattr("xen_lab.guests.run", commands)
    return commands


@pytest.fixture
def control() -> Mute:
    return Mute()


@pytest.fixture
def pool(xl: Xl, control: Mute) -> Up:
    pool = Up(control, 384, 120, 1)
    pool.assign({"guest": "pvh", "other": "pv"}, print)
    return pool


def test_another_domain_has_the_name_and_nobody_else_is_touched(pool: Up, xl: Xl) -> None:
    guest, other = pool.find("guest"), pool.find("other")
    assert guest is not None
    new = pool.replace(guest, print)
    assert (new.domid, new.name, new.kind) == (3, "guest", "pvh")
    assert pool.find("guest") is new
    assert pool.find("other") is other
    assert xl.said == [["xl", "destroy", "1"], ["xl", "rename", "3", "guest"]]


def test_what_a_destroyed_guest_was_asked_is_answered_that_it_is_gone(
    pool: Up, control: Mute
) -> None:
    guest = pool.find("guest")
    assert guest is not None
    request = control.ask(guest.label, "half")
    pool.replace(guest, print)
    assert request.answer == {"is": "gone"}


def test_a_guests_console_is_read_until_it_is_destroyed(pool: Up, xl: Xl, control: Mute) -> None:
    guest = pool.find("guest")
    assert guest is not None
    control.asked.clear()
    xl.said.clear()
    xl.refuses = "destroy"
    pool.destroy(guest)
    assert xl.said == [["xl", "destroy", "1"]]
    assert control.asked == ["detach"]


def test_a_name_that_cannot_be_given_is_said(pool: Up, xl: Xl) -> None:
    guest = pool.find("guest")
    assert guest is not None
    xl.refuses = "rename"
    with pytest.raises(BackendError, match="cannot rename lab-pvh-3: no"):
        pool.replace(guest, print)
