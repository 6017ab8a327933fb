"""The lab itself: a real Xen, booted for these tests."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from itertools import chain, cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.pace import patience

from activations.cli import main
from activations.errors import BackendError
from activations.scenario import Scenario, load
from xen_lab import Lab, Shape, guests, running

pytestmark = pytest.mark.lab


class Watching:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.told: list[str] = []

    def line(self, domain: str, text: str) -> None:
        self.lines.append((domain, text))

    def progress(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[[str], Scenario]:
    def write(halves: str) -> Scenario:
        head = "import asyncio, os, sys\nimport activations\ns = activations.Scenario('s')\n"
        (tmp_path / "scenario.py").write_text(head + textwrap.dedent(halves))
        return load(str(tmp_path / "scenario.py"))

    return write


class TestRun:
    def test_a_half_in_dom0(self, lab: Lab, scenario, tmp_path: Path) -> None:
        (tmp_path / "beside.py").write_text("WORD = 'beside'")
        watching = Watching()
        outcome = lab.run(
            scenario(
                """
                import beside
                @s.domain("dom0")
                async def dom0(xen):
                    print("out", beside.WORD, "\\u2713")
                    print("err", file=sys.stderr)
                    print("unfinished", end="")
                    return {"domid": xen.domid, "name": xen.name}
                """
            ),
            watching,
        )
        assert outcome.failures == {}
        assert outcome.results == {"dom0": {"domid": 0, "name": "dom0"}}
        texts = ["out beside \u2713", "err", "unfinished"]
        assert watching.lines == [("dom0", text) for text in texts]
        assert outcome.facts["xen"].startswith("4.17")
        assert {"linux", "python", "qemu"} <= outcome.facts.keys()

    def test_a_run_after_the_boot_is_quick(self, lab: Lab, scenario) -> None:
        halves = "@s.domain('dom0')\nasync def dom0(xen): return 1"
        lab.run(scenario(halves), Watching())
        began = time.monotonic()
        lab.run(scenario(halves), Watching())
        assert time.monotonic() - began < patience(3)

    def test_a_half_finds_what_its_file_imports_or_one_before_it_did_but_nothing_beside_a_scenario(
        self, lab: Lab, scenario, tmp_path: Path
    ) -> None:
        halves = """
            found = [name for name in ("colorsys", "wave", "beside") if name in sys.modules]
            import colorsys, beside
            __import__("wave")
            @s.domain("dom0")
            async def dom0(xen): return [*found, beside.WORD]
            """
        for word, found in (("one", ["colorsys"]), ("two", ["colorsys", "wave"])):
            (tmp_path / "beside.py").write_text(f"WORD = {word!r}")
            assert lab.run(scenario(halves), Watching()).results["dom0"] == [*found, word]

    def test_guests_of_both_kinds_find_each_other_by_name(self, lab: Lab, scenario) -> None:
        halves = """
            @s.domain("{0}", kind="pvh")
            async def one(xen): return [xen.name, xen.domid]
            @s.domain("{1}", kind="pv")
            async def two(xen): return [xen.name, xen.domid]
            @s.domain("dom0")
            async def dom0(xen):
                found = {{}}
                for domid in await xen.store.list("/local/domain"):
                    found[await xen.store.read(f"/local/domain/{{domid}}/name")] = int(domid)
                return found
            """
        for names in (("back", "front"), ("left", "right")):
            outcome = lab.run(scenario(halves.format(*names)), Watching())
            assert outcome.failures == {}
            domids = outcome.results["dom0"]
            for name in names:
                assert outcome.results[name] == [name, domids[name]]

    def test_when_one_half_fails_the_others_end(self, lab: Lab, scenario) -> None:
        outcome = lab.run(
            scenario(
                """
                @s.domain("dom0")
                async def dom0(xen): await asyncio.sleep(3600)
                @s.domain("guest", kind="pv")
                async def guest(xen): raise ValueError("no good")
                """
            ),
            Watching(),
        )
        assert outcome.results == {}
        assert outcome.failures["guest"].endswith("ValueError: no good\n")
        assert "scenario.py" in outcome.failures["guest"]
        assert outcome.facts["stopped"] == ["dom0"]
        assert lab.shell("dom0", ["ps"])[1].count("xen_lab.inside") == 1  # the agent itself

    @pytest.mark.parametrize(
        ("body", "failure"),
        [
            ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
            ("os._exit(3)", "ended with exit status 3"),
            ("sys.exit('enough')", "SystemExit: enough"),
        ],
    )
    def test_other_ends(self, lab: Lab, scenario, body: str, failure: str) -> None:
        half = f"@s.domain('dom0')\nasync def dom0(xen): {body}"
        assert failure in lab.run(scenario(half), Watching()).failures["dom0"]

    def test_a_file_that_does_not_import_there(self, lab: Lab, scenario, monkeypatch) -> None:
        halves = """
            if os.path.exists("/proc/xen/capabilities"): import not_there
            @s.domain("dom0")
            async def dom0(xen): pass
            """
        failure = lab.run(scenario(halves), Watching()).failures["dom0"]
        assert "No module named 'not_there'" in failure

    def test_a_result_that_is_not_json(self, lab: Lab, scenario) -> None:
        watching = Watching()
        half = "@s.domain('dom0')\nasync def dom0(xen): return {1, 2}"
        assert lab.run(scenario(half), watching).results == {"dom0": "{1, 2}"}
        assert watching.told == ["dom0: its result is not JSON; this is its repr"]

    def test_what_halves_log_is_shown_from_the_level_that_is_asked_for(
        self, lab: Lab, scenario, capsys: pytest.CaptureFixture[str]
    ) -> None:
        halves = """
            @s.domain("dom0")
            async def dom0(xen):
                xen.log.debug("not asked for")
                xen.log.info("thought", about=3)
            @s.domain("guest", kind="pv")
            async def guest(xen):
                asyncio.get_running_loop().call_soon(lambda: 1 / 0)
                await asyncio.sleep(0.01)
                print("printed")
            """
        path = str(scenario(halves).path)
        assert main(["run", path, "--backend", "lab", "-v"]) == 0
        out, err = capsys.readouterr()
        assert out == "guest | printed\n"
        entries = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        by_domain = {entry["domain"]: entry for entry in entries}
        assert len(entries) == 2
        assert (by_domain["dom0"]["event"], by_domain["dom0"]["about"]) == ("thought", 3)
        assert "ZeroDivisionError" in by_domain["guest"]["exception"]

    def test_a_half_that_never_ends(self, lab: Lab, scenario) -> None:
        half = "@s.domain('dom0')\nasync def dom0(xen): await asyncio.sleep(3600)"
        outcome = lab.run(scenario(half), Watching(), timeout=3)
        assert "did not end within 3 s" in outcome.failures["dom0"]

    def test_much_output_arrives_whole(self, lab: Lab, scenario) -> None:
        watching = Watching()
        half = "@s.domain('dom0')\nasync def dom0(xen): [print(i, 'x' * 90) for i in range(5000)]"
        lab.run(scenario(half), watching)
        assert [int(text.split()[0]) for _, text in watching.lines] == list(range(5000))

    def test_what_a_run_left_in_xenstore_is_gone_in_the_next(self, lab: Lab, scenario) -> None:
        halves = """
            @s.domain("dom0")
            async def dom0(xen):
                await xen.store.write("/local/domain/0/backend/lab/1/key", "forgotten")
                await xen.store.write("/local/domain/0/data/store", "forgotten")
            @s.domain("guest", kind="pv")
            async def guest(xen):
                path = f"/local/domain/{xen.domid}/data"
                found = await xen.store.list(path)
                await xen.store.write(path + "/key", "forgotten")
                return found
            """
        for _ in range(2):
            outcome = lab.run(scenario(halves), Watching())
            assert (outcome.results, outcome.failures) == ({"dom0": None, "guest": []}, {})
        lab.guests({})
        left = lab.shell("dom0", ["xenstore-ls", "-f", "/local/domain"])[1]
        assert "forgotten" not in left
        assert "/backend/console" in left

    @pytest.mark.long
    def test_a_guest_that_panics_is_an_error_with_its_last_words(self, lab: Lab, scenario) -> None:
        panic = """
            @s.domain("guest", kind="pv")
            async def guest(xen):
                with open("/proc/sysrq-trigger", "w") as file: file.write("c")
                await asyncio.sleep(60)
            """
        failure = lab.run(scenario(panic), Watching()).failures["guest"]
        assert "its guest is gone; its console ended with" in failure
        assert "sysrq" in failure.lower()
        half = "@s.domain('guest', kind='pv')\nasync def guest(xen): return 'a new one'"
        assert lab.run(scenario(half), Watching()).results == {"guest": "a new one"}

    @pytest.mark.long
    def test_a_guest_that_does_not_answer_is_replaced(
        self, lab: Lab, scenario, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "ENDING", 2.0)
        hang = """
            @s.domain("guest", kind="pv")
            async def guest(xen):
                os.kill(os.getppid(), 19)  # stops the agent
                await asyncio.sleep(3600)
            """
        failure = lab.run(scenario(hang), Watching(), timeout=5).failures["guest"]
        assert "did not end within 5 s" in failure
        half = "@s.domain('guest', kind='pv')\nasync def guest(xen): return 'a new one'"
        assert lab.run(scenario(half), Watching()).results == {"guest": "a new one"}


class TestTools:
    def test_a_command(self, lab: Lab) -> None:
        status, output = lab.shell("dom0", ["xl", "list"])
        assert status == 0
        assert "Domain-0" in output
        assert lab.shell("dom0", ["sh", "-c", "echo no >&2; exit 7"]) == (7, "no\n")
        assert lab.shell("dom0", ["nonesuch"])[0] == 127

    def test_our_command_ends_and_says_the_same_whether_forked_or_started(self, lab: Lab) -> None:
        argv = ["activations", "detach", "block", "nobody", "xvda"]
        status, said = forked = lab.shell("dom0", argv)
        assert (status, "nobody" in said) == (2, True)
        assert lab.shell("dom0", ["sh", "-c", " ".join(argv)]) == forked

    def test_a_program_that_runs_on_is_heard_and_signalled(self, lab: Lab) -> None:
        program = lab.start("dom0", ["sh", "-c", "echo begun; exec sleep 3600"])
        program.says("begun")
        assert not program.over
        program.signal(signal.SIGTERM)
        assert program.ended() == -signal.SIGTERM
        with pytest.raises(BackendError, match=r"did not say 'more'; it printed:\nbegun"):
            program.says("more")

    def test_a_command_that_takes_too_long(self, lab: Lab) -> None:
        with pytest.raises(BackendError, match=r"(?s)did not end within 2 s.*so far"):
            lab.shell("dom0", ["sh", "-c", "echo so far; sleep 3600"], timeout=2)
        assert "sleep 3600" not in lab.shell("dom0", ["ps"])[1]

    def test_files_to_and_fro(self, lab: Lab) -> None:
        lab.guests({"guest": "pv"})
        for domain, data in (("dom0", bytes(range(256)) * 2000), ("guest", os.urandom(30_000))):
            lab.put(domain, "/tmp/deep/file", data)
            assert lab.fetch(domain, "/tmp/deep/file") == data
        lab.put("dom0", "/tmp/deep/file", b"short")
        assert lab.fetch("dom0", "/tmp/deep/file") == b"short"

    def test_a_program_put_there_runs(self, lab: Lab) -> None:
        lab.put("dom0", "/tmp/program", b"#!/bin/busybox sh\necho ran\n")
        assert lab.shell("dom0", ["/tmp/program"]) == (0, "ran\n")

    def test_a_file_that_is_not_there(self, lab: Lab) -> None:
        with pytest.raises(BackendError, match="No such file"):
            lab.fetch("dom0", "/nonesuch")

    def test_a_domain_that_is_not_there(self, lab: Lab) -> None:
        with pytest.raises(BackendError, match="no domain 'nobody'; it has: dom0"):
            lab.shell("nobody", ["true"])

    def test_a_file_of_this_machine_is_a_disk_there(self, lab: Lab, lent: Path) -> None:
        lab.guests({"guest": "pv"})  # whoever makes guests has found the disks
        read = ["sh", "-c", f"head -c {lent.stat().st_size} /dev/vdc | sha256sum"]
        digest = hashlib.sha256(lent.read_bytes()).hexdigest()
        assert lab.shell("dom0", read) == (0, f"{digest}  -\n")

    def test_the_libraries_that_benchmarks_want_are_there(self, lab: Lab) -> None:
        for name in ("xenevtchn.so.1", "xengnttab.so.1", "xenvchan.so.4.17.0"):
            assert lab.shell("dom0", ["ls", f"/usr/lib/x86_64-linux-gnu/lib{name}"])[0] == 0


class TestGuests:
    def test_one_that_does_not_come_up(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = guests.CONFIG.replace("{linux}", "console=hvc0 panic=-1 rdinit=/nonesuch")
        monkeypatch.setattr(guests, "CONFIG", broken.replace("{kind}", "pv"))
        monkeypatch.setattr(guests, "BOOTS", 1)
        names: dict[str, str] = {}
        with pytest.raises(BackendError, match=r"(?s)crashed as it booted.*Kernel panic"):
            while True:  # until the pool has none left to lend
                names[f"new-{len(names)}"] = "pv"
                lab.guests(names)

    @pytest.mark.long
    def test_one_that_crashes_at_its_first_boot_is_started_again(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        healthy = guests.CONFIG.replace("{kind}", "pv")
        broken = healthy.replace("{linux}", "console=hvc0 panic=-1 rdinit=/nonesuch")
        configs = [broken]

        def next_config(**values: object) -> str:
            return (configs.pop() if configs else healthy).format(**values)

        monkeypatch.setattr(guests, "CONFIG", SimpleNamespace(format=next_config))
        names: dict[str, str] = {}
        while configs:  # until the pool has none left to lend
            names[f"again-{len(names)}"] = "pv"
            domids = lab.guests(names)
        assert len(set(domids.values())) == len(names)


BOOTS = """
import sys, time
from xen_lab import Lab
with Lab(progress=lambda text: print("..", text, flush=True)) as lab:
    print("pid", lab.pid, flush=True)
    lab.shell("dom0", ["sleep", "3600"], timeout=3600)
"""


@pytest.mark.own_lab
class TestCounted:
    WORK = "import time; b = time.perf_counter(); sum(range(10**6)); print(time.perf_counter() - b)"

    @pytest.mark.long
    def test_what_else_the_host_does_changes_no_time(self, lab_parts: None) -> None:
        with Lab(shape=Shape(counted=True)) as counted:

            def seconds() -> float:
                """The least of three: dom0 has work of its own after its boot."""
                work = ["python3", "-c", self.WORK]
                return min(float(counted.shell("dom0", work)[1]) for _ in range(3))

            alone = seconds()
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
            try:
                assert seconds() == pytest.approx(alone, rel=0.05)
            finally:
                for each in busy:
                    each.kill()
                    each.wait()


@pytest.mark.own_lab
class TestEnds:
    """Whatever ends the program ends the machine."""

    @pytest.mark.parametrize(
        ("when", "end"),
        [
            ("booting", signal.SIGINT),
            ("booting", signal.SIGTERM),
            ("booting", signal.SIGKILL),
            pytest.param("pid", signal.SIGKILL, marks=pytest.mark.long),
            pytest.param("pid", signal.SIGINT, marks=pytest.mark.long),
            pytest.param("pid", signal.SIGTERM, marks=pytest.mark.long),
        ],
    )
    def test_nothing_is_left(self, when: str, end: signal.Signals) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", BOOTS],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as program:
            try:
                assert program.stdout is not None
                next(line for line in program.stdout if when in line)
                until(lambda: emulators(program.pid))
                (emulator,) = emulators(program.pid)
                program.send_signal(end)
                assert program.wait(patience(30)) != 0
            finally:
                program.kill()
        until(lambda: not Path(f"/proc/{emulator}").exists())


def emulators(parent: int) -> list[int]:
    """The process ids of the QEMUs that a process started. One that is not installed is run by its
    own loader, and known by its arguments alone."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline") for child in children}
    return [pid for pid, command in commands.items() if b"qemu-system" in command.read_bytes()]


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + patience(30)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestShell:
    def test_on_a_terminal(self, lab: Lab, monkeypatch, capfdbinary) -> None:
        from xen_lab import shell

        keyboard, terminal = pty.openpty()
        with os.fdopen(terminal) as stdin, os.fdopen(keyboard, "wb", 0) as typing:
            monkeypatch.setattr(sys, "stdin", stdin)
            typing.write(b"echo $((6 * 7)); exit 5\n")
            assert shell.interactive(lab) == 5
            assert b"42" in capfdbinary.readouterr().out
            typing.write(b"sleep 3600\n\x1d")
            assert shell.interactive(lab) == 128 + signal.SIGKILL

    def test_the_terminal_there_has_the_size_of_the_one_here(
        self, lab: Lab, monkeypatch, capfdbinary
    ) -> None:
        from xen_lab import shell

        sizes = chain([(90, 30)], cycle([(132, 50), (133, 50)]))
        over = threading.Event()

        def resize_until_it_is_over() -> None:
            """Again and again: a shell that is reading a line keeps the signal to itself."""
            while not over.wait(1):
                os.kill(os.getpid(), signal.SIGWINCH)

        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size(next(sizes)))
        keyboard, terminal = pty.openpty()
        with os.fdopen(terminal) as stdin, os.fdopen(keyboard, "wb", 0) as typing:
            monkeypatch.setattr(sys, "stdin", stdin)
            typing.write(b"stty size; trap 'stty size; exit 6' WINCH\n")
            typing.write(b"while true; do usleep 10000; done\n")
            resizing = threading.Thread(target=resize_until_it_is_over)
            resizing.start()
            try:
                assert shell.interactive(lab) == 6
            finally:
                over.set()
                resizing.join()
        printed = capfdbinary.readouterr().out
        assert b"30 90" in printed
        assert b"50 13" in printed

    def test_with_a_script_on_standard_input(self, lab: Lab, monkeypatch, tmp_path) -> None:
        from xen_lab import shell

        (tmp_path / "script").write_text("uname -r\nexit 4")
        with (tmp_path / "script").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert shell.interactive(lab) == 4
