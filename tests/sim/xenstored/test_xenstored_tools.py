"""Xen's own command-line tools against the simulated xenstored, over its Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from support import xenstore_tools
from support.pace import patience

from activations.abi.xs_wire import MessageType
from activations.store.wire import Message, join
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.serve import SocketServer

installed = xenstore_tools.installed


class Shell:
    """Runs the tools against one socket."""

    def __init__(self, xenstored: Xenstored, environment: Mapping[str, str], socket: Path) -> None:
        self.xenstored = xenstored
        self._environment = {**environment, "XENSTORED_PATH": str(socket)}

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *command: str, fails: bool = False) -> str:
        """What the command printed; on standard error if it must fail."""
        process = await self.start(*command)
        out, err = await process.communicate()
        assert bool(process.returncode) == fails, (command, out, err)
        return (err if fails else out).decode()


Session = Callable[[Callable[[Shell], Awaitable[None]]], None]


@pytest.fixture
def session(installed: Mapping[str, str], tmp_path: Path) -> Session:
    """Runs a coroutine function with a `Shell` while the server is up."""

    async def run(body: Callable[[Shell], Awaitable[None]]) -> None:
        xenstored = Xenstored()
        toolstack.introduce_dom0(xenstored)
        toolstack.introduce(xenstored, 1, "guest")
        socket = tmp_path / "socket"
        async with asyncio.timeout(patience(30)), SocketServer(xenstored, socket):
            await body(Shell(xenstored, installed, socket))
        assert not socket.exists()
        assert not xenstored.connections

    return lambda body: asyncio.run(run(body))


def test_what_one_tool_writes_another_reads(session: Session) -> None:
    async def body(shell: Shell) -> None:
        await shell("xenstore-write", "/a/b", "hello", "/a/c", "two words")
        assert await shell("xenstore-read", "/a/b", "/a/c") == "hello\ntwo words\n"
        assert await shell("xenstore-list", "/a") == "b\nc\n"
        await shell("xenstore-rm", "/a/b")
        await shell("xenstore-exists", "/a/b", fails=True)
        await shell("xenstore-exists", "/a/c")

    session(body)


def test_errors_arrive_by_name(session: Session) -> None:
    async def body(shell: Shell) -> None:
        assert "couldn't read path /missing" in await shell("xenstore-read", "/missing", fails=True)

    session(body)


def test_ls_shows_the_whole_tree_with_values_and_permissions(session: Session) -> None:
    async def body(shell: Shell) -> None:
        tree = await shell("xenstore-ls", "-f", "-p", "/local/domain/1")
        assert '/local/domain/1/name = "guest"   (n0,r1)\n' in tree
        assert '/local/domain/1/data = ""   (n1)\n' in tree

    session(body)


def test_ls_shows_a_directory_of_any_length(session: Session) -> None:
    async def body(shell: Shell) -> None:
        for number in range(500):
            shell.xenstored.connect(0).receive(_mkdir(f"/long/a-long-name-{number}"))
        listing = await shell("xenstore-list", "/long")
        assert len(listing.splitlines()) == 500
        for connection in shell.xenstored.connections:
            connection.close()

    session(body)


def test_chmod_changes_permissions_below_as_well(session: Session) -> None:
    async def body(shell: Shell) -> None:
        await shell("xenstore-write", "/a/b", "1")
        await shell("xenstore-chmod", "-r", "/a", "n0", "b1")
        assert '/a/b = "1"   (n0,b1)' in await shell("xenstore-ls", "-f", "-p", "/a")

    session(body)


def test_watch_prints_changes_as_they_come(session: Session) -> None:
    async def body(shell: Shell) -> None:
        watching = await shell.start("xenstore-watch", "-n", "3", "/a")
        assert watching.stdout
        assert await watching.stdout.readline() == b"/a\n"
        await shell("xenstore-write", "/a/b", "1")
        assert await watching.stdout.readline() == b"/a/b\n"
        await shell("xenstore-rm", "/a")
        assert await watching.stdout.readline() == b"/a\n"
        assert await watching.wait() == 0
        await watching.communicate()

    session(body)


def _mkdir(path: str) -> bytes:
    return Message(MessageType.MKDIR, join(path)).encode()
