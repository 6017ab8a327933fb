"""`activations store`: xenstore by hand, and the simulated one for other programs.

    activations store serve /tmp/xenstored &
    export XENSTORED_PATH=/tmp/xenstored
    activations store write /greeting hello
    activations store ls -r

The commands that look at a store or change it speak to the socket that is named, else to the real
xenstore of this domain, through the backend `linux`. Values come from other domains, which need
not be friends: to a terminal no control character of theirs goes as it is.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from activations import backend as backends
from activations.cli import options
from activations.cli.ending import ENDING, status_of, when_told
from activations.cli.output import JsonLines, Screen, write
from activations.cli.status import INTERRUPTED, NOT_TRIED, WELL
from activations.cli.streams import serving
from activations.errors import ActivationsError, BackendError
from activations.lower import StoreConnection
from activations.offers import HasStore, HasStoreServer
from activations.running import run_on
from activations.store import Permission, Store, StoreError, Watch
from activations.store.socket import connect
from activations.store.wire import octets

F = TypeVar("F", bound=Callable[..., Any])
Work = Callable[[Store], Awaitable[None]]

REASONS = {
    errno.ENOENT: "no such path: {}",
    errno.EACCES: "{}: xenstore does not allow this domain to do that",
    errno.EINVAL: "{}: xenstore takes no such path or value",
    errno.EPERM: "{}: xenstore does not allow this domain to do that",
}
CHANGED = b"XENSTORE_PATH"
ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


class Refused(ActivationsError):
    """xenstore refused, in plain words."""


def store_path(value: str) -> str:
    """A path of xenstore. It knows none that end in a slash; people do."""
    if not value:
        raise click.BadParameter("a path is not empty")
    return value.rstrip("/") or "/"


def permission(value: str) -> Permission:
    """A permission, as `r5`."""
    try:
        return Permission.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def speaks_to(command: F) -> F:
    """`--socket`."""
    return click.option(
        "--socket",
        envvar="XENSTORED_PATH",
        metavar="SOCKET",
        type=click.Path(path_type=Path),
        help="Speak to the xenstored here.  [default: $XENSTORED_PATH, else this domain's own]",
    )(command)


# The commands


@click.group(short_help="xenstore, by hand; and a simulated one to speak to.")
def store() -> None:
    """Look at xenstore and change it: this domain's own, or one that is served on a socket.

    A PATH begins with /, or is taken from the domain's home. Exit status: 0 if all went well, 1 if
    xenstore refused (no such path, say), 2 if there is no xenstore to speak to, 130 if interrupted.
    """


@store.command(short_help="What is below a path.")
@click.argument("path", default="/", type=store_path)
@click.option("-p", "--permissions", is_flag=True, help="Show permissions, the owner's first.")
@click.option("-r", "--recursive", is_flag=True, help="Show all that is below, not the next level.")
@speaks_to
@options.as_json
def ls(path: str, permissions: bool, recursive: bool, socket: Path | None, as_json: bool) -> int:
    """Show the nodes below PATH, by default below /, and their values.

    On a terminal -r draws a tree. Elsewhere each node is a line with its whole path. A guest may
    not look at /, but at what is its own, as device or data.
    """

    async def work(store: Store) -> None:
        nodes = [node async for node in walk(store, path, recursive, permissions)]
        if as_json:
            for node in nodes:
                say("node", **node.as_data())
        else:
            Listing(path, nodes).show(tree=recursive)

    return perform(socket, work, as_json)


@store.command(short_help="The values of nodes.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=store_path)
@speaks_to
@options.as_json
def read(paths: tuple[str, ...], socket: Path | None, as_json: bool) -> int:
    """Print the value of each PATH, a line each.

    A terminal gets it with control characters escaped, a pipe or a file as it is.
    """

    async def work(store: Store) -> None:
        for path in paths:
            value = await store.read(path)
            if as_json:
                say("node", path=path, value=value)
            else:
                line = escaped(value) if sys.stdout.isatty() else value
                write(octets(line) + b"\n")

    return perform(socket, work, as_json)


@store.command("write", short_help="Set a value.")
@click.argument("path", type=store_path)
@click.argument("value")
@speaks_to
def write_(path: str, value: str, socket: Path | None) -> int:
    """Set the value of PATH, which is made if need be, with its parents."""
    return perform(socket, lambda store: store.write(path, value))


@store.command(short_help="Remove a node and all below it.")
@click.argument("path", type=store_path)
@speaks_to
def rm(path: str, socket: Path | None) -> int:
    """Remove PATH and all that is below it."""

    async def work(store: Store) -> None:
        await store.get_perms(path)  # xenstored is content with a node that was never there
        await store.rm(path)

    return perform(socket, work)


@store.command(short_help="Say what changes, as it does.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=store_path)
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="COUNT", help="End after so many lines."
)
@click.option(
    "--exec",
    "command",
    metavar="COMMAND",
    help="Run COMMAND by the shell for each, to its end, with what changed in $XENSTORE_PATH.",
)
@speaks_to
@options.as_json
def watch(
    paths: tuple[str, ...],
    count: int | None,
    command: str | None,
    socket: Path | None,
    as_json: bool,
) -> int:
    """Print what changes at PATH or below it, until Ctrl-C: a line each.

    Each PATH itself comes first, at once: from then on nothing is missed. @introduceDomain and
    @releaseDomain can be watched too.
    """

    async def work(store: Store) -> None:
        left = count
        async with AsyncExitStack() as stack:
            watches = [await stack.enter_async_context(store.watch(path)) for path in paths]
            changes = await stack.enter_async_context(aclosing(merge(watches)))
            async for changed in changes:
                if as_json:
                    say("changed", path=changed)
                else:
                    write(octets(escaped(changed)) + b"\n")
                if command is not None:
                    await run_shell(command, changed)
                left = left and left - 1
                if left == 0:
                    return

    return perform(socket, work, as_json)


@store.command(short_help="Who may do what with a node.")
@click.argument("path", type=store_path)
@click.argument("permissions", metavar="[PERM]...", nargs=-1, type=permission)
@speaks_to
def perms(path: str, permissions: tuple[Permission, ...], socket: Path | None) -> int:
    """Print the permissions of PATH, or replace them by these.

    A PERM is one of n (nothing), r (read), w (write), b (both), and a domid: r5. The first names
    the owner, who may do everything, and says what all may do that are not named.
    """

    async def work(store: Store) -> None:
        if permissions:
            await store.set_perms(path, *permissions)
        else:
            write(" ".join(map(str, await store.get_perms(path))) + "\n")

    return perform(socket, work)


@store.command(short_help="A simulated xenstored on a Unix socket.")
@click.argument("socket", type=click.Path(path_type=Path))
def serve(socket: Path) -> int:
    """Serve a simulated xenstored, in which there is dom0 alone, on SOCKET until Ctrl-C.

    Whoever can open SOCKET is trusted like dom0. It is removed in the end. Exit status: 130 after
    Ctrl-C, 143 after `kill`, 129 with its terminal, 2 if it cannot be served there.
    """
    backend = backends.load("sim")
    if not isinstance(backend, HasStoreServer):
        raise BackendError("the installed backend 'sim' has no xenstored to serve: upgrade it")
    socket = socket.absolute()
    try:
        with serving(sys.stdout):
            run_on(
                asyncio.new_event_loop,
                lambda loop: serve_until_told(loop, backend.store_server(socket), socket),
            )
        return WELL
    except OSError as error:
        Screen().failed(BackendError(f"{socket} cannot be served: {_why_not(socket, error)}"))
        return NOT_TRIED
    except KeyboardInterrupt:
        return INTERRUPTED


async def run_shell(command: str, changed: str) -> None:
    """Run a command to its end, with what changed in its environment. It comes from another domain:
    it is a value there, and no part of the command. Cancelled, the command is ended too."""
    environment = {**os.environb, CHANGED: octets(changed)}
    process = await asyncio.create_subprocess_shell(command, env=environment)
    try:
        await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise


# Speaking to a store


def perform(socket: Path | None, work: Work, as_json: bool = False) -> int:
    """Do this with the store, report what goes wrong; give the exit status."""
    reporter = JsonLines() if as_json else Screen()
    speaking = partial(run_on, asyncio.new_event_loop, lambda loop: _with_store(socket, work))
    return status_of(speaking, reporter, failures=(StoreError, Refused))


async def _with_store(socket: Path | None, work: Work) -> None:
    async with Store(await connect(socket) if socket else _own_store()) as store:
        try:
            await work(store)
        except StoreError as error:
            raise _plainly(error) from error


def _own_store() -> StoreConnection:
    backend = backends.load("linux")
    if not isinstance(backend, HasStore):
        raise BackendError("the installed backend 'linux' offers no store: upgrade it")
    try:
        return backend.open_store()
    except BackendError as error:
        raise BackendError(f"{error} (or name a socket: --socket, XENSTORED_PATH)") from error


def _plainly(error: StoreError) -> ActivationsError:
    reason = REASONS.get(error.errno or 0)
    return Refused(reason.format(escaped(error.path))) if reason and error.path else error


async def merge(watches: Iterable[Watch]) -> AsyncGenerator[str, None]:
    """What any of these tells, as it comes."""
    next_of = {watch: asyncio.ensure_future(anext(watch)) for watch in watches}
    try:
        while True:
            await asyncio.wait(next_of.values(), return_when=asyncio.FIRST_COMPLETED)
            for watch, told in list(next_of.items()):
                if told.done():
                    yield told.result()
                    next_of[watch] = asyncio.ensure_future(anext(watch))
    finally:
        for told in next_of.values():
            told.cancel()
        await asyncio.gather(*next_of.values(), return_exceptions=True)


# Nodes, and how they look


@dataclass(frozen=True, slots=True)
class Node:
    """A node as `ls` found it, so many levels below where it began."""

    path: str
    depth: int
    value: str | None
    """None where this domain may not read it."""
    permissions: tuple[str, ...] | None
    """None where nobody asked."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def as_data(self) -> dict[str, object]:
        data: dict[str, object] = {"path": self.path, "value": self.value}
        return data if self.permissions is None else {**data, "permissions": self.permissions}

    def said(self, name: str) -> Text:
        """The node on a line, under this name."""
        value = "?" if self.value is None else f'"{escaped(self.value)}"'
        line = Text.assemble((escaped(name), "cyan"), " = ", value)
        if self.permissions is not None:
            line.append(f"   ({','.join(self.permissions)})", "dim")
        return line


async def walk(store: Store, top: str, recursive: bool, permissions: bool) -> AsyncIterator[Node]:
    """The nodes below `top`, each before what is below it.

    The store does not stand still: what goes away meanwhile is left out. Not by recursion, as
    whoever writes to the store says how deep it is.
    """
    waiting = [(path, 1) for path in reversed(await _children(store, top))]
    while waiting:
        path, depth = waiting.pop()
        try:
            node = await _look(store, path, depth, permissions)
            below = await _children(store, path) if recursive and node.value is not None else []
        except StoreError as error:
            if error.errno != errno.ENOENT:
                raise
            continue
        yield node
        waiting += [(each, depth + 1) for each in reversed(below)]


async def _children(store: Store, path: str) -> list[str]:
    prefix = path.rstrip("/")
    return [f"{prefix}/{name}" for name in await store.list(path)]


async def _look(store: Store, path: str, depth: int, permissions: bool) -> Node:
    try:
        value = await store.read(path)
        shown = tuple(map(str, await store.get_perms(path))) if permissions else None
    except StoreError as error:
        if error.errno != errno.EACCES:
            raise
        return Node(path, depth, None, () if permissions else None)
    return Node(path, depth, value, shown)


class Listing:
    """Nodes for people: on a terminal under their names, elsewhere under their paths."""

    def __init__(self, top: str, nodes: list[Node]) -> None:
        self._top = top
        self._nodes = nodes
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def show(self, *, tree: bool) -> None:
        if not self._console.is_terminal:
            lines = [node.said(node.path).plain + "\n" for node in self._nodes]
            write(octets("".join(lines)))
        elif tree:
            self._console.print(Text(escaped(self._top), "bold"))
            for node, branch in zip(self._nodes, branches(self._nodes), strict=True):
                self._console.print(Text.assemble((branch, "dim"), node.said(node.name)))
        else:
            for node in self._nodes:
                self._console.print(node.said(node.name))


def branches(nodes: list[Node]) -> list[str]:
    """What a tree draws before each node. From the end, since a branch looks at what follows."""
    drawn = []
    open_levels: set[int] = set()
    for node in reversed(nodes):
        trunk = "".join("│  " if level in open_levels else "   " for level in range(1, node.depth))
        drawn.append(trunk + ("├─ " if node.depth in open_levels else "└─ "))
        open_levels = {level for level in open_levels if level < node.depth} | {node.depth}
    return drawn[::-1]


def escaped(value: str) -> str:
    """A value on one line, harmless to a terminal: `\\n`, `\\x1b`. Other letters stay."""
    return "".join(each if _is_harmless(each) else _escape(each) for each in value)


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() and letter != "\\"


def _escape(letter: str) -> str:
    return ESCAPES.get(letter) or "".join(f"\\x{byte:02x}" for byte in octets(letter))


def say(event: str, **details: object) -> None:
    """Write one object of `--json`."""
    write(json.dumps({"event": event, **details}) + "\n")


# Serving


async def serve_until_told(
    loop: asyncio.AbstractEventLoop, server: AbstractAsyncContextManager[object], socket: Path
) -> None:
    """Serve until told to end, or until cancelled."""
    told = asyncio.Event()

    def end(number: signal.Signals) -> None:
        ENDING.told(number)
        told.set()

    async with server:
        write(
            f"A simulated xenstored serves {socket}, until Ctrl-C. To have Xen's own tools "
            "and `activations store` speak to it:\n"
            f"export XENSTORED_PATH={shlex.quote(str(socket))}\n"
        )
        with when_told(loop, end):
            await told.wait()


def _why_not(socket: Path, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return error.strerror or str(error)
    if socket.is_socket():
        return "somebody serves it already"
    return "a file that is no socket is there"
