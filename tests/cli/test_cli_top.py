"""`activations top`, and what programs tell it of themselves."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.linux_fakes import FakeEventDevice

from activations import Domain, EventLoop, Port, Scenario, telling, watched
from activations.cli import main
from activations.cli.top import Seen, answers
from xen_linux.grants import LinuxGrantTable
from xen_linux.lower import LinuxLowerHalf
from xen_sim import Machine


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv(watched.ASKED, raising=False)
    return tmp_path / "activations"


@pytest.fixture
def device() -> FakeEventDevice:
    return FakeEventDevice()


@pytest.fixture
def loop(device: FakeEventDevice) -> Iterator[EventLoop]:
    """A loop on `linux` that tells of itself."""
    with watched.asked():
        made = EventLoop(LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH")))
    yield made
    made.close()


def told() -> dict[str, Any]:
    (program,) = answers(()).values()
    return program


def test_a_loop_that_nobody_asked_tells_nothing(device: FakeEventDevice, runtime: Path) -> None:
    loop = EventLoop(LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH")))
    port = loop.domain.events.alloc_unbound(0)
    assert type(port) is Port
    assert not runtime.exists()
    assert answers(()) == {}
    port.close()
    loop.close()


def test_a_program_tells_of_its_ports(loop: EventLoop, device: FakeEventDevice) -> None:
    async def program() -> None:
        with loop.domain.events.alloc_unbound(0) as one, loop.domain.events.alloc_unbound(5):
            one.notify()
            device.fire(one.number)
            await one.wait()
            for waiting in (one.wait(), one.after(7)):
                tasks.append(asyncio.create_task(waiting))
            await asyncio.sleep(0)
            loop.call_later(3600, print).cancel()
            loop.call_later(3600, print)
            seen.update(told())
            for task in tasks:
                task.cancel()

    tasks: list[asyncio.Task[int]] = []
    seen: dict[str, Any] = {}
    loop.run_until_complete(program())
    assert seen["pid"] == os.getpid()
    (domain,) = seen["domains"]
    one, other = domain.pop("ports")
    assert domain == {
        **{"domid": 3, "name": "guest", "clock": "wall", "generation": 0},
        **{"ready": 0, "asleep": 1},
    }
    assert min(*one.pop("wake"), *one.pop("answer")) > 0
    counts = {"fired": 1, "woken": 1, "coalesced": 0, "sent": 1, "waiters": 2}
    assert one == {"port": 1, "remote": "domain 0", **counts}
    assert (other["wake"], other["answer"], other["fired"]) == (None, None, 0)


def test_domains_on_the_virtual_clock_tell_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dom0(xen: Domain) -> dict[str, Any]:
        with xen.events.alloc_unbound(1):
            return told()

    async def guest(xen: Domain) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setenv(watched.ASKED, "1")
    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    domains = {each["name"]: each for each in machine.run()["dom0"]["domains"]}
    assert domains.keys() == {"dom0", "guest"}
    assert [port["remote"] for port in domains["dom0"]["ports"]] == ["domain 1"]
    assert answers(()) == {}


def test_a_scenario_is_seen_where_it_is_asked_to(tmp_path: Path) -> None:
    scenario = Scenario("it")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> int:
        return len(answers(()))

    assert scenario.run(top=True) == {"dom0": 1}
    assert scenario.run() == {"dom0": 0}


def test_the_socket_goes_with_the_last_loop(runtime: Path, device: FakeEventDevice) -> None:
    with watched.asked():
        one = EventLoop(LinuxLowerHalf(3, "a", device, LinuxGrantTable(3, "PVH")))
        other = EventLoop(LinuxLowerHalf(3, "b", FakeEventDevice(), LinuxGrantTable(3, "PVH")))
    path = runtime / f"{os.getpid()}.sock"
    assert runtime.stat().st_mode & 0o777 == 0o700
    one.close()
    assert [domain["name"] for domain in told()["domains"]] == ["b"]
    other.close()
    assert not path.exists()


def test_a_forked_child_leaves_the_socket_to_its_parent(loop: EventLoop, runtime: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(telling._teller is not None)
    assert os.waitpid(child, 0)[1] == 0
    assert told()["pid"] == os.getpid()


@pytest.mark.parametrize("how", ["open to all", "a link", "a file"])
def test_a_folder_that_is_not_this_users_alone_is_not_used(
    how: str, runtime: Path, caplog: pytest.LogCaptureFixture, device: FakeEventDevice
) -> None:
    if how == "open to all":
        runtime.mkdir()
        runtime.chmod(0o777)
    elif how == "a link":
        (runtime.parent / "elsewhere").mkdir(mode=0o700)
        runtime.symlink_to("elsewhere")
    else:
        runtime.touch()
    with watched.asked():
        loop = EventLoop(LinuxLowerHalf(3, "a", device, LinuxGrantTable(3, "PVH")))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert "not seen by activations top" in caplog.text
    if runtime.is_dir():
        assert list(runtime.iterdir()) == []


def a_look(ns: int, generation: int = 0, **counts: int) -> dict[str, Any]:
    zero = dict.fromkeys(("fired", "sent", "woken", "coalesced"), 0)
    port = {"port": 1, "remote": "domain 1", **zero, **counts}
    domain = {"domid": 0, "name": "dom0", "generation": generation, "ports": [port]}
    return {"ns": ns, "domains": [domain]}


def rate(before: dict[str, Any] | None, now: dict[str, Any]) -> float:
    (domain,) = Seen(now, before).domains()
    return float(domain["ports"][0]["fired_per_s"])


def test_rates_are_what_two_looks_differ_by() -> None:
    assert rate(a_look(10**9, fired=100), a_look(3 * 10**9, fired=150)) == 25
    assert rate(None, a_look(10**9, fired=100)) == 0
    assert rate(a_look(0, fired=100), a_look(10**9, generation=1, fired=5)) == 5
    assert rate(a_look(0, fired=100), a_look(10**9, fired=5)) == 0


def test_once_in_json_is_one_object(loop: EventLoop, capsys: pytest.CaptureFixture[str]) -> None:
    with loop.domain.events.alloc_unbound(9):
        assert main(["top", "--once", "--json", "-i", "0.05"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["event"], said["pid"]) == ("top", os.getpid())
    assert said["seconds"] >= 0.05
    assert said["domains"][0]["ports"][0]["fired_per_s"] == 0


def test_once_in_a_pipe_is_a_table(loop: EventLoop, capsys: pytest.CaptureFixture[str]) -> None:
    with loop.domain.events.alloc_unbound(9), loop.domain.events.bind_interdomain(0, 12345):
        assert main(["top", "--once", "-i", "0.05", str(os.getpid())]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{os.getpid()} ")
    assert head.split()[:4] == ["domain", "port", "to", "fired/s"]
    assert [row.split()[:6] for row in rows] == [
        ["guest", "1", "domain", "9", "0", "0"],
        ["guest", "2", "domain", "0,", "port", "12345"],
    ]


def test_nobody_to_be_seen_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top"]) == 2
    assert "no program of this user lets itself be seen: start it" in capsys.readouterr().err
    assert main(["top", "1"]) == 2
    assert "no program 1 lets" in capsys.readouterr().err


def test_the_socket_of_one_that_was_killed_is_removed(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left, telling.short(runtime / "5.sock") as path:
        left.bind(path)
    assert answers(()) == {}
    assert list(runtime.iterdir()) == []


class Terminal:
    """`activations top` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(40, 80)
        command = [sys.executable, "-m", "activations", "top", "-i", "0.05", *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        self.shown = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self._ours, 65536)

    def ended(self) -> int:
        try:
            while data := os.read(self._ours, 65536):
                self.shown += data
        except OSError:  # nobody has the other end any more
            pass
        os.close(self._ours)
        return self.process.wait()


def test_on_a_terminal_it_is_drawn_anew_until_ctrl_c(loop: EventLoop) -> None:
    with loop.domain.events.alloc_unbound(9):
        top = Terminal()
        top.read_until(b"fired/s")
        assert b"coalesced/s" not in top.shown
        top.resize(40, 150)
        top.process.send_signal(signal.SIGWINCH)
        top.read_until(b"coalesced/s")
        top.process.send_signal(signal.SIGINT)
        assert top.ended() == 0
    assert top.shown.rstrip().endswith(b"\x1b[?1049l") or b"\x1b[?1049l" in top.shown
    assert b"Traceback" not in top.shown


def test_it_ends_with_the_last_program(loop: EventLoop) -> None:
    top = Terminal(str(os.getpid()))
    top.read_until(b"fired/s")
    loop.close()
    assert top.ended() == 0
