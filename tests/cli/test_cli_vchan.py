"""`activations vchan`: its whole way on a simulated Xen, and by hand on a real one."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from anyio import EndOfStream

from activations import Domain, XenError, vchan
from activations.abi.vchan import LEFT_PROD
from activations.cli import main
from activations.vchan import VchanStream
from xen_sim import Machine

ACTIVATIONS = Path(sys.executable).with_name("activations")
command = importlib.import_module("activations.cli.vchan")
KEY = "data/cat"
PATH = f"/local/domain/1/{KEY}"
MUCH = bytes(range(251)) * 4001
Capture = pytest.CaptureFixture[bytes]
Peer = Callable[[VchanStream], Awaitable[Any]]


class Keyboard:
    """The command's standard input: a pipe that can be typed at, or a file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "input"
        self._monkeypatch = monkeypatch
        reader, writer = os.pipe()
        self._writer = os.fdopen(writer, "wb", buffering=0)
        self._become(os.fdopen(reader))

    def types(self, data: bytes) -> None:
        self._writer.write(data)

    def ends(self) -> None:
        self._writer.close()

    def is_file(self, data: bytes) -> None:
        self._file.write_bytes(data)
        self._stdin.close()
        self._become(self._file.open())

    def close(self) -> None:
        self._writer.close()
        self._stdin.close()

    def _become(self, file: Any) -> None:
        self._stdin = file
        self._monkeypatch.setattr(sys, "stdin", file)


@pytest.fixture
def keyboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    with closing(Keyboard(tmp_path, monkeypatch)) as keyboard:
        yield keyboard


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Domain], Any]], None]:
    """Have the command run in dom0 of a simulated Xen, beside a guest that does this."""

    def prepare(guest: Callable[[Domain], Any]) -> None:
        def run(main: Callable[[Domain], Any], *, backend: str, clock: Any) -> None:
            assert backend == "linux"
            machine = Machine(clock=clock)
            machine.boot("dom0", main)
            machine.boot("guest", guest)
            machine.run()

        monkeypatch.setattr(command, "run", run)

    return prepare


def client(use: Peer) -> Callable[[Domain], Any]:
    async def guest(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY) as stream:
            await use(stream)

    return guest


def server(use: Peer) -> Callable[[Domain], Any]:
    async def guest(xen: Domain) -> None:
        async with vchan.listen(xen, 0, KEY) as listener:
            stream = await listener.accept()
        async with stream:
            await use(stream)

    return guest


async def everything(stream: VchanStream) -> bytes:
    data = bytearray()
    try:
        while True:
            data += await stream.receive()
    except EndOfStream:
        return bytes(data)


@pytest.mark.parametrize("role", ["listen", "connect"])
def test_a_file_goes_to_the_other_domain_and_its_end_ends_the_stream(
    role: str, keyboard: Keyboard, beside: Any
) -> None:
    heard = []

    async def hear(stream: VchanStream) -> None:
        heard.append(await everything(stream))

    beside((client if role == "listen" else server)(hear))
    keyboard.is_file(MUCH)
    assert main(["vchan", role, "guest", PATH]) == 0
    assert heard == [MUCH]


def test_whenever_a_listener_is_told_to_end_it_parts_with_who_has_come() -> None:
    """At each turn of the loop, from before the offer until long after it was taken up."""
    met = [told_to_end_after(turns) for turns in range(90)]
    assert {"nobody came", "parted"} == set(met)
    assert met[-20:] == ["parted"] * 20


def told_to_end_after(turns: int) -> str:
    """What a client has met with."""

    async def dom0(xen: Domain) -> None:
        listening = asyncio.ensure_future(listens(xen))
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled(), listening

    async def listens(xen: Domain) -> None:
        async with command.accepted(xen, "1", PATH, left=4096, right=4096) as stream:
            await everything(stream)

    async def guest(xen: Domain) -> str:
        try:
            async with asyncio.timeout(1):
                stream = await vchan.connect(xen, 0, KEY)
        except (TimeoutError, XenError):  # what it found was just being taken back
            return "nobody came"
        async with stream:
            await everything(stream)
        return "parted"

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return str(machine.run()["guest"])


@pytest.mark.parametrize("role", ["listen", "connect"])
def test_what_the_other_domain_sends_is_printed_until_it_leaves(
    role: str, keyboard: Keyboard, beside: Any, capfdbinary: Capture
) -> None:
    beside((client if role == "listen" else server)(lambda stream: stream.send(MUCH)))
    assert main(["vchan", role, "1", PATH]) == 0  # and nothing is typed meanwhile
    assert capfdbinary.readouterr().out == MUCH


def test_no_input_at_all_means_to_receive(
    keyboard: Keyboard, beside: Any, capfdbinary: Capture
) -> None:
    beside(client(lambda stream: stream.send(b"hello")))
    keyboard.is_file(b"")
    assert main(["vchan", "listen", "guest", PATH]) == 0
    assert capfdbinary.readouterr().out == b"hello"


def test_an_input_that_is_closed_is_none_at_all(
    beside: Any, monkeypatch: pytest.MonkeyPatch, capfdbinary: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it then
    beside(client(lambda stream: stream.send(b"hello")))
    assert main(["vchan", "listen", "guest", PATH]) == 0
    assert capfdbinary.readouterr().out == b"hello"


def test_an_answer_is_waited_for_where_it_is_told_to_stay(
    keyboard: Keyboard, beside: Any, capfdbinary: Capture
) -> None:
    async def answer(stream: VchanStream) -> None:
        assert await stream.receive() == b"ping\n"
        await asyncio.sleep(0.05)  # its input has long ended
        await stream.send(b"pong\n")

    beside(client(answer))
    keyboard.types(b"ping\n")
    keyboard.ends()
    assert main(["vchan", "listen", "--stay", "guest", PATH]) == 0
    assert capfdbinary.readouterr().out == b"pong\n"


def test_the_other_end_leaves_before_it_had_all(
    keyboard: Keyboard, beside: Any, capfdbinary: Capture
) -> None:
    async def leave(stream: VchanStream) -> None:
        await stream.send(b"enough" + await stream.receive(1))

    beside(client(leave))
    keyboard.is_file(MUCH)
    assert main(["vchan", "listen", "guest", PATH]) == 1
    out, err = capfdbinary.readouterr()
    assert out == b"enough\0"
    assert b"left before it had all of standard input" in err


def test_nobody_comes_in_time(keyboard: Keyboard, beside: Any, capfdbinary: Capture) -> None:
    async def nobody(xen: Domain) -> None:
        pass

    beside(nobody)
    assert main(["vchan", "listen", "--wait", "0.05", "guest", PATH]) == 1
    assert main(["vchan", "connect", "--wait", "0.05", "1", PATH]) == 1
    assert (
        capfdbinary.readouterr().err
        == b"activations: the other end did not come within 0.05 s\n" * 2
    )


def test_an_end_that_breaks_the_protocol_is_told_of(
    keyboard: Keyboard, beside: Any, capfdbinary: Capture
) -> None:
    async def lie(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY) as stream:
            xen.grants.open[0].memory.cast("I")[LEFT_PROD // 4] = 1 << 30
            with pytest.raises(EndOfStream):
                await stream.receive()

    beside(lie)
    assert main(["vchan", "listen", "guest", PATH]) == 1
    assert b"broke the ring" in capfdbinary.readouterr().err


def test_kill_closes_the_vchan(keyboard: Keyboard, beside: Any) -> None:
    heard = []

    async def hear(stream: VchanStream) -> None:
        heard.append(await stream.receive())
        os.kill(os.getpid(), signal.SIGTERM)
        heard.append(await everything(stream))

    beside(client(hear))
    keyboard.types(b"x")
    assert main(["vchan", "listen", "guest", PATH]) == 143
    assert heard == [b"x", b""]


def test_nobody_reads_the_output_any_more(
    keyboard: Keyboard, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        beside(client(lambda stream: stream.send(b"hello")))
        assert main(["vchan", "listen", "guest", PATH]) == 141


def test_a_slow_reader_of_the_output_holds_nothing_else_up(
    keyboard: Keyboard, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is full, and input goes on."""
    reader, writer = os.pipe()
    heard = []

    async def talk(stream: VchanStream) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.send(MUCH[:200_000]))
            heard.append(await stream.receive())
            left = 200_000
            while left:
                left -= len(await asyncio.to_thread(os.read, reader, left))

    with os.fdopen(writer, "wb") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        beside(client(talk))
        keyboard.types(b"typed while the pipe is full")
        assert main(["vchan", "listen", "--stay", "guest", PATH]) == 0
    os.close(reader)
    assert heard == [b"typed while the pipe is full"]


def test_sizes_of_rings_are_those_that_are_asked_for(keyboard: Keyboard, beside: Any) -> None:
    orders = []

    async def look(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY):
            orders.extend(xen.grants.open[0].memory[16:20].tolist())

    beside(look)
    sizes = ["--receive-ring", "8192", "--send-ring", "1000"]
    assert main(["vchan", "listen", *sizes, "guest", PATH]) == 0
    assert orders == [13, 0, 11, 0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["frob"],
        ["listen", "1"],
        ["listen", "1", "p", "--send-ring", "0"],
        ["listen", "1", "p", "--send-ring", "1048577"],
        ["connect", "1", "p", "--send-ring", "1"],
        ["connect", "1", "p", "--wait", "0"],
        ["connect", "1", ""],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vchan", *arguments]) == 2
    assert "Usage: activations vchan" in capsys.readouterr().err


def test_a_machine_that_is_no_xen_domain_says_so() -> None:
    done = subprocess.run(
        [ACTIVATIONS, "vchan", "connect", "dom0", KEY],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("activations: ")
    assert done.stderr.count("\n") == 1
