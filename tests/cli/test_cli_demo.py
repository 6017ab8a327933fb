"""`activations demo`: what it shows, what it finds, and that what it finds could be otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from errno import EIO
from pathlib import Path
from typing import Any

import pytest
from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from support.pace import patience

from activations import scenario
from activations.cli import main
from activations.cli.demo import command
from activations.cli.output import size
from activations.demo import Plan, ping
from activations.demo.talk import CONVERSATION, Talk
from activations.drivers.block import FileDisk
from activations.vchan import VchanStream

ACTIVATIONS = Path(sys.executable).with_name("activations")
SMALL = Plan(size=1 << 20, pings=20, talk=1 << 20, every=0.0)
SMALL_DEMO = """
import sys
from activations.cli import main
from activations.cli.demo import command
from activations.demo import Plan
command.HERE = Plan(size=1 << 18, pings=20, talk=1 << 18)
command.ELSEWHERE = Plan(size=0, pings=20, talk=1 << 18, every=0.5)
sys.exit(main(["demo", *sys.argv[1:]]))
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
"""What a terminal is told about its cursor."""
CLEAR = "\x1b[2K"
"""And about a line that is drawn anew."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the demo, with less to do, and figures told whenever there are some."""
    monkeypatch.setattr(command, "HERE", SMALL)
    monkeypatch.setattr(command, "ELSEWHERE", replace(SMALL, size=1 << 18, talk=1 << 18, every=0.5))


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was printed, as one object a line."""
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


# What it shows


@pytest.mark.usefixtures("small")
def test_it_shows_the_conversation_every_ring_every_channel_and_what_was_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    said = [line.partition("“")[2].rstrip("”") for line in out.splitlines() if "“" in line]
    assert said == list(CONVERSATION)
    beginnings = [line.split() for line in out.splitlines()]
    for ring in ("xvda", "eth0 alice", "eth0 bob", "vchan alice", "vchan bob"):
        assert any(words[: len(ring.split())] == ring.split() for words in beginnings), ring
    channels = [line.partition("⇄")[0].split()[:-1] for line in out.splitlines() if "⇄" in line]
    assert ["xvda", "dom0"] in channels
    assert ["eth0", "alice", "dom0"] in channels
    assert ["eth0", "bob", "dom0"] in channels
    assert ["vchan", "alice"] in channels
    assert [line.split()[:2] for line in out.splitlines() if "✓" in line] == [
        ["✓", "disk"],
        ["✓", "packets"],
        ["✓", "vchan"],
    ]
    assert "machine room on sim: all ended well" in err


@pytest.mark.usefixtures("small")
def test_json_has_the_statistics_as_objects_and_all_that_was_found_in_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--json"]) == 0
    *before, result = events(capsys)
    statistics = [event for event in before if event["event"] == "statistics"]
    assert {event["domain"] for event in statistics} == {"dom0", "alice", "bob"}
    last = {event["domain"]: event for event in statistics}
    (xvda,) = [ring for ring in last["alice"]["rings"] if ring["use"] == "xvda"]
    assert (xvda["bytes"], xvda["in_flight"], xvda["share"]) == (SMALL.size, 0, 1.0)
    assert any(ring["in_flight"] > 1 for event in statistics for ring in event["rings"])
    assert {port["use"] for port in last["dom0"]["ports"]} >= {"xvda", "eth0 alice", "eth0 bob"}
    assert (result["event"], result["ok"]) == ("result", True)
    assert [(each["what"], each["ok"]) for each in result["facts"]["findings"]] == [
        ("disk", True),
        ("packets", True),
        ("vchan", True),
    ]
    assert result["results"]["alice"]["pings"]["answered"] == SMALL.pings


@pytest.mark.parametrize("lines", [40, 8])
def test_a_terminal_gets_a_table_that_lives_and_its_cursor_back(lines: int) -> None:
    """Of one that is too high for it, nothing is left in the end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": str(lines)}
    with subprocess.Popen(
        [ACTIVATIONS, "demo"], stdout=theirs, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        said = read_to_the_end(ours)
    assert running.returncode == 0
    assert said.count("in flight") > 2, "drawn again and again"
    assert said.rindex(SHOW) > said.rindex(HIDE)
    drawn, left = said[: said.rindex(SHOW)], said[said.rindex(SHOW) :]
    assert "in flight" not in drawn[drawn.rindex(CLEAR) :]
    assert left.count("in flight") == 1
    assert "✓" in left, "the summary stays"


def read_to_the_end(descriptor: int) -> str:
    """What comes from a terminal until nobody has it open any more."""
    said = b""
    try:
        while piece := os.read(descriptor, 1 << 16):
            said += piece
    except OSError as error:
        if error.errno != EIO:
            raise
    finally:
        os.close(descriptor)
    return said.decode()


def test_it_takes_less_than_ten_seconds() -> None:
    """Of a processor's time, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([ACTIVATIONS, "demo"], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


@pytest.mark.parametrize("seed", range(20))
def test_the_room_is_right_on_every_schedule(seed: int, tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text(replace(SMALL, size=200_000, talk=200_000).as_file())
    results = scenario.load(str(tmp_path / "room.py")).run("sim", seed=seed)
    dom0, alice, bob = (results[name] for name in ("dom0", "alice", "bob"))
    assert alice["disk"]["sha256"] == dom0["image"]["sha256"]
    assert alice["pings"]["answered"] == SMALL.pings
    assert alice["vchan"]["received"] == bob["vchan"]["sent"]
    assert bob["vchan"]["received"] == alice["vchan"]["sent"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 bytes"), (512, "512 bytes"), (1 << 20, "1 MiB"), (3 << 29, "1.5 GiB")],
)
def test_sizes_are_said_as_people_say_them(number: int, said: str) -> None:
    assert size(number) == said


# The disk


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("length", [1, 511, 512, 32768, 99_999, 1 << 20])
def test_a_file_of_any_size_is_read_whole_and_left_as_it_was(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = os.urandom(length)
    (tmp_path / "image").write_bytes(content)
    (tmp_path / "image").chmod(0o400)
    assert main(["demo", "--json", "--disk", str(tmp_path / "image")]) == 0
    disk = events(capsys)[-1]["results"]["alice"]["disk"]
    assert disk["sha256"] == hashlib.sha256(content).hexdigest()
    assert disk["bytes"] == length
    assert (tmp_path / "image").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nosuchfile", "nosuchfile cannot be read: No such file or directory"),
        ("folder", "folder is neither a file nor a block device"),
        ("empty", "empty is empty: `truncate -s 64M` makes it a disk of 64 MiB, all zeroes"),
    ],
)
def test_what_is_no_disk_is_said_in_one_line(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    assert main(["demo", "--disk", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err == f"activations: {tmp_path}/{says}\n"
    assert main(["demo", "--json", "--disk", str(tmp_path / name)]) == 2
    (error,) = events(capsys)
    assert (error["event"], error["error"]) == ("error", "NoDisk")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_disk_that_somebody_writes_to_is_said_in_one_line(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is begun, and with what to do."""
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    with FileDisk(image):
        assert main(["demo", "--disk", str(image), *(["--json"] if as_json else [])]) == 2
    says = "is in use: another program has locked it"
    if as_json:
        (error,) = events(capsys)
        assert error["error"] == "NoDisk"
        assert says in error["text"]
    else:
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"activations: {image} {says} (or name a copy of it)\n"


@pytest.mark.usefixtures("small")
def test_a_disk_that_others_only_read_is_read_too(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    with FileDisk(image, read_only=True):
        assert main(["demo", "--disk", str(image)]) == 0


def test_a_backend_that_runs_in_one_domain_is_refused_with_a_way_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--backend", "linux"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "three domains" in err
    assert "--backend sim" in err
    assert "--as" not in err, "the demo has no such option"


# What it finds could be otherwise


def spoil_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of what blkback reads is another one."""
    read_into = FileDisk.read_into

    def spoiled(disk: FileDisk, offset: int, buffers: Any) -> Any:
        done = read_into(disk, offset, buffers)
        if offset == 1 << 19:
            buffers[0][7] ^= 1
        return done

    monkeypatch.setattr(FileDisk, "read_into", spoiled)


def spoil_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """bob answers one ping with another's content."""
    answer = ping.answer

    def spoiled(own: ping.Station, frame: bytes) -> bytes | None:
        asked = Ethernet(frame)
        if isinstance(asked.data, IP) and asked.ip.icmp.data.seq == 7:
            sender = ping.Station(asked.src, asked.ip.src)
            frame = ping.echo(sender, own, ping.Echo(7, bytes(ping.PAYLOAD)))
        return answer(own, frame)

    monkeypatch.setattr(ping, "answer", spoiled)


def spoil_the_vchan(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte of much that is received is another one."""
    receive = VchanStream.receive
    count = 0

    async def spoiled(stream: VchanStream, max_bytes: int = 65536) -> bytes:
        nonlocal count
        data = await receive(stream, max_bytes)
        count += 1
        return bytes([data[0] ^ 1]) + data[1:] if count == 20 else data

    monkeypatch.setattr(VchanStream, "receive", spoiled)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("spoil", "what", "why"),
    [
        (spoil_the_disk, "disk", "alice read something else than machine-room.img"),
        (spoil_an_answer, "packets", "1 of 20 pings had no answer, a late one, or a wrong one"),
        (spoil_the_vchan, "vchan", "what one of them received is not what the other sent"),
    ],
)
def test_what_is_not_right_fails_the_demo(
    spoil: Any,
    what: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        spoil(patch)
        assert main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert f"✗ {what}" in out
    assert out.count("✓") == 2, "the others are well"
    assert f"{what} failed:\n{why}" in err
    with monkeypatch.context() as patch:
        spoil(patch)
        assert main(["demo", "--json"]) == 1
    result = events(capsys)[-1]
    assert not result["ok"]
    assert why in result["failures"][what]


@pytest.mark.usefixtures("small")
def test_a_disk_that_cannot_be_read_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(disk: FileDisk, offset: int, buffers: Any) -> None:
        raise OSError(EIO, "the medium is worn out")

    monkeypatch.setattr(FileDisk, "read_into", fails)
    assert main(["demo"]) == 1
    assert "alice failed:" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_who_failed_is_named_and_not_who_was_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of what bob was listening to."""
    converse = Talk.converse

    async def chokes(talk: Talk, *, begins: bool, show: Any) -> None:
        if not begins:
            raise ValueError("a frog in the throat")
        await converse(talk, begins=begins, show=show)

    monkeypatch.setattr(Talk, "converse", chokes)
    assert main(["demo"]) == 1
    err = capsys.readouterr().err
    assert "alice failed:" in err
    assert "bob failed:" not in err


# Where it is shown


@pytest.mark.parametrize("as_json", [False, True])
def test_an_output_that_takes_no_more_is_said_in_one_line(as_json: bool) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [ACTIVATIONS, "demo", *(["--json"] if as_json else [])],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "activations: stdout: No space left on device\n"


def test_an_output_without_the_characters_for_it_gets_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"* disk" in done.stdout


# Interrupted


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_it_and_leaves_nothing_behind(as_json: bool, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [ACTIVATIONS, "demo", *(["--json"] if as_json else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    assert running.stdout is not None
    while "Hello alice" not in running.stdout.readline():
        pass
    assert list(tmp_path.iterdir()), "the image that dom0 made"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=patience(20))
    assert running.returncode == 130, err
    if as_json:
        assert json.loads(out.splitlines()[-1]) == {"event": "interrupted"}
    else:
        assert err.endswith("activations: interrupted\n")
        assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


# On a real Xen


@pytest.mark.lab
@pytest.mark.usefixtures("small", "lab")
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_real_xen_has_the_same_machine_room(
    times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice: nothing of it is left that the next would stumble over."""
    for _ in range(times):
        assert main(["demo", "--json", "--backend", "lab"]) == 0
        *before, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert result["ok"]
        assert all(finding["ok"] for finding in result["facts"]["findings"])
        told = {event["domain"] for event in before if event["event"] == "statistics"}
        assert told == {"dom0", "alice", "bob"}


@pytest.mark.lab
@pytest.mark.own_lab
@pytest.mark.long
def test_a_real_xen_reads_a_file_of_this_machine(tmp_path: Path) -> None:
    """Of an odd size, under a name that QEMU's options would take apart. In a process of its own,
    with a lab of its own: a machine gets its disks when it boots."""
    content = os.urandom(100_001)
    file = tmp_path / "a, b=c"
    file.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO, "--json", "--backend", "lab", "--disk", file],
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, result["event"]) == (0, "result"), result.get("failures", result)
    assert result["results"]["alice"]["disk"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert file.read_bytes() == content


@pytest.mark.lab
@pytest.mark.usefixtures("small", "lab")
def test_a_lab_that_is_up_gets_no_disk_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "image").write_bytes(b"image")
    assert main(["demo", "--backend", "lab", "--disk", str(tmp_path / "image")]) == 2
    assert "cannot be lent to a lab that is up" in capsys.readouterr().err
