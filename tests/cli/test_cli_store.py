"""`activations store`: against the simulated xenstored, served by itself, run as a user would."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import xenstore_tools
from support.pace import patience

import xen_lab
from activations import registry, scenario
from activations.cli import main
from activations.cli.store.nodes import Node, branches, escaped
from activations.errors import BackendError
from activations.store import Store, StoreUnreachable
from activations.store.socket import connect
from xen_linux import backend as linux
from xen_linux import store as linux_store

ACTIVATIONS = Path(sys.executable).with_name("activations")
tools = xenstore_tools.installed
HOSTILE = "\x1b[2J two\nlines"


@contextmanager
def serving(path: Path) -> Iterator[subprocess.Popen[str]]:
    """`activations store serve`, as a process that has said that it is ready."""
    with subprocess.Popen(
        [ACTIVATIONS, "store", "serve", path], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        server.stdout.readline()
        try:
            yield server
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("store") / "socket"
    with serving(path):
        yield path


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    server: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs `activations store` on a store in which there is nothing but dom0's home; gives status,
    output and complaint."""
    monkeypatch.setenv("XENSTORED_PATH", str(server))
    main(["store", "rm", "/a"])
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["store", *arguments])
        return (status, *capsys.readouterr())

    return run


def start(server: Path, *arguments: str) -> subprocess.Popen[str]:
    """`activations store` as a process of its own."""
    return subprocess.Popen(
        [ACTIVATIONS, "store", *arguments],
        env={**os.environ, "XENSTORED_PATH": str(server)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Nodes


def test_what_is_written_is_read_and_what_is_removed_is_gone(command: Command) -> None:
    assert command("write", "/a/b", "two words") == (0, "", "")
    assert command("read", "/a/b", "/local/domain/0/name") == (0, "two words\nDomain-0\n", "")
    assert command("rm", "/a/b") == (0, "", "")
    assert command("read", "/a/b") == (1, "", "activations: no such path: /a/b\n")


@pytest.mark.parametrize(
    "arguments", [("ls",), ("read",), ("rm",), ("perms",), ("perms", "n0")], ids=" ".join
)
def test_a_path_that_is_not_there_is_said_to_be_so(
    command: Command, arguments: Sequence[str]
) -> None:
    name, *rest = arguments
    assert command(name, "/a/x", *rest) == (1, "", "activations: no such path: /a/x\n")


def test_what_is_no_path_is_refused_in_one_line(command: Command) -> None:
    status, out, err = command("read", "/a b")
    assert (status, out) == (1, "")
    assert err == "activations: /a b: xenstore takes no such path or value\n"
    assert command("read", "")[0] == 2


def test_a_slash_at_the_end_of_a_path_does_no_harm(command: Command) -> None:
    command("write", "/a/b/", "1")
    assert command("ls", "/a/") == (0, '/a/b = "1"\n', "")


def test_a_path_without_a_slash_is_below_the_domains_home(command: Command) -> None:
    assert command("read", "name") == (0, "Domain-0\n", "")


def test_a_pipe_gets_a_value_byte_for_byte(server: Path, command: Command) -> None:
    command("write", "/a", os.fsdecode(b"\xff\n\x1b"))
    got = subprocess.run(
        [ACTIVATIONS, "store", "read", "/a", "--socket", server], stdout=subprocess.PIPE, check=True
    )
    assert got.stdout == b"\xff\n\x1b\n"


def test_permissions_are_shown_as_they_are_given(command: Command) -> None:
    command("write", "/a", "1")
    assert command("perms", "/a", "n0", "r5") == (0, "", "")
    assert command("perms", "/a") == (0, "n0 r5\n", "")
    status, _, err = command("perms", "/a", "x5")
    assert status == 2
    assert "'x5' is not a permission" in err


# ls


def test_ls_shows_the_next_level_and_r_all_of_them(command: Command) -> None:
    command("write", "/a/b/c", HOSTILE)
    assert command("ls", "/a") == (0, '/a/b = ""\n', "")
    escape = r"\x1b[2J two\nlines"
    assert command("ls", "-r", "/a") == (0, f'/a/b = ""\n/a/b/c = "{escape}"\n', "")
    assert command("ls", "-p", "/a") == (0, '/a/b = ""   (n0)\n', "")
    assert '/local/domain/0/name = "Domain-0"' in command("ls", "-r")[1]


def test_ls_of_a_tree_deeper_than_python_can_recurse(command: Command) -> None:
    path = "/a" + "/b" * 1020
    command("write", path, "1")
    assert command("ls", "-r", "/a")[1].endswith(f'{path} = "1"\n')


def on_a_terminal(server: Path, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "XENSTORED_PATH": str(server)}
    done = subprocess.run(
        [ACTIVATIONS, "store", *arguments], stdout=theirs, env=environment, check=False
    )
    os.close(theirs)
    said = os.read(ours, 65536).decode().replace("\r\n", "\n")
    os.close(ours)
    assert done.returncode == 0
    return said


def test_a_terminal_gets_a_tree_and_no_control_character(server: Path, command: Command) -> None:
    command("write", "/a/b/c", HOSTILE)
    command("write", "/a/d", "é")
    assert on_a_terminal(server, "ls", "-r", "/a") == (
        '/a\n├─ b = ""\n│  └─ c = "\\x1b[2J two\\nlines"\n└─ d = "é"\n'
    )
    assert on_a_terminal(server, "read", "/a/b/c") == "\\x1b[2J two\\nlines\n"


def test_branches_end_where_their_siblings_do() -> None:
    def draw(*depths: int) -> list[str]:
        return branches([Node("/x", depth, "", None) for depth in depths])

    assert draw(1, 2, 3, 2, 1) == ["├─ ", "│  ├─ ", "│  │  └─ ", "│  └─ ", "└─ "]
    assert draw(1, 1, 2, 3) == ["├─ ", "└─ ", "   └─ ", "      └─ "]
    assert draw() == []


def test_escapes_can_be_told_from_what_they_stand_for() -> None:
    assert escaped("\\n\n\t\udcff\x00é") == r"\\n\n\t\xff\x00é"


# watch


def test_watch_tells_of_changes_as_they_come(server: Path, command: Command) -> None:
    command("write", "/a/b", "1")
    with start(server, "watch", "/a", "/local", "-n", "4") as watching:
        assert watching.stdout
        assert [watching.stdout.readline() for _ in "12"] == ["/a\n", "/local\n"], "at once"
        command("write", "/a/b", "2")
        assert watching.stdout.readline() == "/a/b\n"
        command("rm", "/a")
        assert watching.communicate() == ("/a\n", "")
        assert watching.returncode == 0


def test_watch_runs_a_command_for_each_change_and_the_path_is_none_of_its_words(
    server: Path, command: Command, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    words = ("/exec", "-n", "2", "--exec", f'echo "<$XENSTORE_PATH>" >> {said}')
    with start(server, "watch", *words) as watching:
        assert watching.stdout
        assert watching.stdout.readline() == "/exec\n"
        command("write", "/exec/a", "1")
        watching.communicate()
        assert watching.returncode == 0
    assert said.read_text() == "</exec>\n</exec/a>\n"


def test_watch_ends_when_xenstored_does(tmp_path: Path) -> None:
    with serving(tmp_path / "s") as server, start(tmp_path / "s", "watch", "/a") as watching:
        assert watching.stdout
        watching.stdout.readline()
        server.terminate()
        out, err = watching.communicate()
        assert (watching.returncode, out) == (1, "")
        assert "xenstored went away" in err
        assert err.count("\n") == 1


def test_ctrl_c_ends_a_watch_with_130(server: Path) -> None:
    with start(server, "watch", "/a", "/b") as watching:
        assert watching.stdout
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate()
        assert (watching.returncode, err) == (130, "activations: interrupted\n")


def test_a_watch_that_nobody_reads_any_more_ends_quietly(server: Path, command: Command) -> None:
    with start(server, "watch", "/a") as watching:
        assert watching.stdout
        assert watching.stderr
        watching.stdout.readline()
        watching.stdout.close()
        command("write", "/a", "1")
        assert watching.wait() == 141
        assert watching.stderr.read() == ""


# --json


def objects(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def test_json_is_one_object_a_line(command: Command) -> None:
    command("write", "/a/b", "1")
    node = {"event": "node", "path": "/a/b", "value": "1"}
    assert objects(command("read", "/a/b", "--json")[1]) == [node]
    assert objects(command("ls", "/a", "--json")[1]) == [node]
    assert objects(command("ls", "/a", "-p", "--json")[1]) == [{**node, "permissions": ["n0"]}]
    changed = {"event": "changed", "path": "/a"}
    assert objects(command("watch", "/a", "-n", "1", "--json")[1]) == [changed]


def test_json_says_errors_in_json(command: Command) -> None:
    status, out, err = command("read", "/a/b", "--json")
    assert (status, err) == (1, "")
    assert objects(out) == [{"event": "error", "error": "Refused", "text": "no such path: /a/b"}]


# Which store


def test_a_socket_that_nobody_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, other = tmp_path / "left", tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    other.write_text("something else")
    for path in (left, other, tmp_path / "missing", tmp_path / ("long" * 50)):
        assert main(["store", "ls", "--socket", str(path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"activations: no xenstored answers at {path}: ")
        assert err.count("\n") == 1


def test_a_socket_of_something_else_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(tmp_path / "s"))
        stranger.listen()
        with subprocess.Popen(
            [ACTIVATIONS, "store", "read", "/a", "--socket", tmp_path / "s"],
            stderr=subprocess.PIPE,
            text=True,
        ) as reading:
            peer, _ = stranger.accept()
            with peer:
                peer.sendall(b"220 ready to take your mail, at last\r\n")
                _, err = reading.communicate()
        assert reading.returncode == 1
        assert err.startswith("activations: XS_READ /a: ")
        assert err.count("\n") == 1


def test_without_a_socket_it_is_this_domains_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Path
) -> None:
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setattr(linux_store, "SOCKETS", (str(server),))
    assert main(["store", "read", "name"]) == 0
    assert capsys.readouterr().out == "Domain-0\n"


def test_what_is_no_domain_of_xen_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setattr(linux_store, "SOCKETS", ())
    monkeypatch.setattr(linux_store, "DEVICE", str(tmp_path / "xenbus"))
    with pytest.raises(BackendError, match="not a Xen domain"):
        linux.open_store()
    assert main(["store", "ls"]) == 2
    err = capsys.readouterr().err
    assert "not a Xen domain" in err
    assert "--socket" in err
    assert err.count("\n") == 1


def test_backends_that_offer_no_store_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setattr(registry, "find", lambda name: object())
    assert main(["store", "ls"]) == 2
    assert "'linux' offers no store" in capsys.readouterr().err
    assert main(["store", "serve", "somewhere"]) == 2
    assert "'sim' has no xenstored" in capsys.readouterr().err


def test_a_program_can_connect_to_a_socket_too(server: Path, tmp_path: Path) -> None:
    async def body() -> None:
        async with asyncio.timeout(patience(10)), Store(await connect(server)) as store:
            assert await store.read("name") == "Domain-0"
        with pytest.raises(StoreUnreachable):
            await connect(tmp_path / "missing")

    asyncio.run(body(), debug=True)


OWN_STORES = """
from activations import Scenario
from activations.store import Store
from xen_linux import backend

own = Scenario("own")

async def look(xen):
    async with Store(backend.open_store()) as store:
        await store.write("data/own", xen.name)
        return [await store.read("domid"), await store.read("data/own")]

own.domain("dom0")(look)
own.domain("guest", kind="pvh")(look)
"""


@pytest.mark.lab
def test_a_real_domain_opens_its_own_store(lab: xen_lab.Lab, tmp_path: Path) -> None:
    """By the daemon's socket in dom0, by the kernel's device in a guest."""
    (tmp_path / "own.py").write_text(OWN_STORES)
    results = scenario.load(str(tmp_path / "own.py")).run(backend="lab")
    assert results["dom0"] == ["0", "dom0"]
    domid, name = results["guest"]
    assert int(domid) > 0
    assert name == "guest"


# serve


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_removes_its_socket_in_the_end(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    path = tmp_path / "s"
    with serving(path) as server, start(path, "watch", "/a") as client:
        assert client.stdout
        client.stdout.readline()
        server.send_signal(number)
        assert server.wait() == status, "with a client connected"
        assert not path.exists()


def test_serve_says_how_it_is_found(tmp_path: Path) -> None:
    path = tmp_path / "with space"
    with serving(path) as server:
        server.terminate()
        assert server.stdout
        assert server.stdout.read() == f"export XENSTORED_PATH='{path}'\n"


def test_serve_refuses_a_socket_that_somebody_serves(server: Path) -> None:
    done = subprocess.run(
        [ACTIVATIONS, "store", "serve", server], stderr=subprocess.PIPE, text=True, check=False
    )
    said = (
        f"activations: {server} cannot be served: another server listens there already: end it, or "
        "serve on another path\n"
    )
    assert (done.returncode, done.stderr) == (2, said)
    assert main(["store", "read", "name", "--socket", str(server)]) == 0, "it still does"


def test_serve_replaces_the_socket_of_a_server_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path) as killed:
        killed.kill()
        killed.wait()
    assert path.is_socket()
    with serving(path):
        assert main(["store", "read", "name", "--socket", str(path)]) == 0
    assert not path.exists()


def test_serve_leaves_the_socket_of_another(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path) as first:
        path.unlink()
        with serving(path):
            first.terminate()
            first.wait()
            assert main(["store", "read", "name", "--socket", str(path)]) == 0


@pytest.mark.parametrize("where", ["no/folder", "file", "long" * 50])
def test_serve_says_where_it_cannot(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(["store", "serve", str(tmp_path / where)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"activations: {tmp_path / where} cannot be served: ")
    assert err.count("\n") == 1
    assert file.read_text() == "mine"


def test_xens_own_tools_and_ours_see_the_same_store(
    server: Path, command: Command, tools: Mapping[str, str]
) -> None:
    environment = {**tools, "XENSTORED_PATH": str(server)}

    def theirs(*arguments: str) -> str:
        done = subprocess.run(
            arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    theirs("xenstore-write", "/a/b", "theirs", "/a/c", "2")
    assert command("read", "/a/b")[1] == "theirs\n"
    command("write", "/a/b", "ours")
    command("perms", "/a/b", "n0", "b3")
    assert theirs("xenstore-read", "/a/b") == "ours\n"
    assert command("ls", "-r", "-p", "/a")[1] == theirs("xenstore-ls", "-f", "-p", "/a")
