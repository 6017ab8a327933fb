"""`activations store`: its subcommands."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import click

from activations import backend as backends
from activations.cli import options
from activations.cli.options import F
from activations.cli.output import JsonLines, Screen, write
from activations.cli.status import INTERRUPTED, NOT_TRIED, WELL
from activations.cli.store.changes import merge, run_shell
from activations.cli.store.nodes import Listing, escaped, walk
from activations.cli.store.serving import serve_until_told, why_not
from activations.cli.store.speaking import perform
from activations.cli.streams import serving
from activations.errors import BackendError
from activations.offers import HasStoreServer
from activations.running import run_on
from activations.store import Permission, Store
from activations.store.wire import octets


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


@click.group(short_help="xenstore, by hand; and a simulated one to speak to.")
def store() -> None:
    """Look at xenstore and change it: this domain's own, or one that is served on a socket.

    A PATH begins with /, or is taken from the domain's home. Exit status: 0 if all went well, 1 if
    xenstore refused (no such path, say), 2 if there is no xenstore to speak to, 130 if interrupted.
    """


@store.command(short_help="What is below a path.")
@click.argument("path", default="/", type=options.store_path)
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
                JsonLines().say("node", **node.as_data())
        else:
            Listing(path, nodes).show(tree=recursive)

    return perform(socket, work, as_json)


@store.command(short_help="The values of nodes.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=options.store_path)
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
                JsonLines().say("node", path=path, value=value)
            else:
                line = escaped(value) if sys.stdout.isatty() else value
                write(octets(line) + b"\n")

    return perform(socket, work, as_json)


@store.command("write", short_help="Set a value.")
@click.argument("path", type=options.store_path)
@click.argument("value")
@speaks_to
def write_(path: str, value: str, socket: Path | None) -> int:
    """Set the value of PATH, which is made if need be, with its parents."""
    return perform(socket, lambda store: store.write(path, value))


@store.command(short_help="Remove a node and all below it.")
@click.argument("path", type=options.store_path)
@speaks_to
def rm(path: str, socket: Path | None) -> int:
    """Remove PATH and all that is below it."""

    async def work(store: Store) -> None:
        await store.get_perms(path)  # xenstored is content with a node that was never there
        await store.rm(path)

    return perform(socket, work)


@store.command(short_help="Say what changes, as it does.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=options.store_path)
@click.option(
    "-n", "--count", type=options.Whole(min=1), metavar="COUNT", help="End after so many lines."
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
                    JsonLines().say("changed", path=changed)
                else:
                    write(octets(escaped(changed)) + b"\n")
                if command is not None:
                    await run_shell(command, changed)
                left = left and left - 1
                if left == 0:
                    return

    return perform(socket, work, as_json)


@store.command(short_help="Who may do what with a node.")
@click.argument("path", type=options.store_path)
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

    A program that can open SOCKET is trusted like dom0. It is removed in the end. Exit status: 130
    after Ctrl-C, 143 after `kill`, 129 with its terminal, 2 if it cannot be served there.
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
        Screen().failed(BackendError(f"{socket} cannot be served: {why_not(socket, error)}"))
        return NOT_TRIED
    except KeyboardInterrupt:
        return INTERRUPTED
