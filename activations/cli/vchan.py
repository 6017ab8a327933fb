"""`activations vchan`: a netcat over vchan.

    activations vchan listen guest /local/domain/5/data/file > file       # in dom0
    activations vchan connect dom0 data/file < file                       # in domain 5

Standard input goes to the other domain, and what it sends goes to standard output. The other end
may be any program on libxenvchan. A vchan cannot close one direction alone: to say that there is
no more, an end leaves, and then it receives no more either.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from select import PIPE_BUF
from typing import Any

import click
from anyio import BrokenResourceError, create_task_group, wait_readable, wait_writable
from anyio.abc import ByteStream

from activations import vchan as vchans
from activations.cli import options
from activations.cli.ending import ENDING, when_told
from activations.cli.options import F
from activations.cli.output import Screen
from activations.cli.status import FAILED, INTERRUPTED, NOT_TRIED, PIPE_GONE, WELL
from activations.cli.streams import serving
from activations.domain import Domain
from activations.errors import ActivationsError, BackendError
from activations.running import run
from activations.vchan import VchanError, VchanStream
from activations.vchan.server import RING_SIZE

READ = 1 << 16
LARGEST = 1 << 20
Open = Callable[[Domain], AbstractAsyncContextManager[VchanStream]]


class Unfinished(ActivationsError):
    """The other end left, or never came."""


def common(command: F) -> F:
    """DOMAIN, PATH, and the options of both commands."""
    for add in (
        click.option(
            "-b",
            "--backend",
            default="linux",
            show_default=True,
            metavar="NAME",
            shell_complete=options.complete_backend,
            help="The backend whose domain this is.",
        ),
        click.option(
            "-s",
            "--stay",
            is_flag=True,
            help="Receive on after the end of standard input, until the other end leaves.",
        ),
        click.option(
            "-w",
            "--wait",
            type=options.Seconds(min=0, min_open=True),
            metavar="SECONDS",
            help="Wait no longer than this for the other end.  [default: for ever]",
        ),
        click.argument("path", type=options.store_path),
        click.argument("domain"),
    ):
        command = add(command)
    return command


def ring(name: str, what: str) -> Callable[[F], F]:
    """An option for the least size of a ring."""
    return click.option(
        name,
        type=options.Whole(1, LARGEST),
        default=RING_SIZE,
        show_default=True,
        metavar="BYTES",
        help=f"The least size of the ring that {what}.",
    )


@click.group(short_help="Bytes to and from another domain: a netcat.")
def vchan() -> None:
    """Connect standard input and output to another domain, through a vchan.

    DOMAIN is a domid, or a name (dom0, or as in `xl list`). PATH is where in xenstore the vchan is
    offered; it begins with /, or is taken from this domain's home. The other end may be a program
    on libxenvchan.

    At the end of standard input this end leaves, once all is sent; where there is no input at all,
    as with </dev/null, it receives until the other end leaves.

    Exit status: 0 if all went well; 1 if the other end left before it had all of standard input,
    broke the protocol, or did not come in time; 2 if this is not a Xen domain; 130 if interrupted,
    141 if the output's reader has gone.
    """


@vchan.command(short_help="Offer a vchan, to one client.")
@common
@ring("--receive-ring", "the client writes")
@ring("--send-ring", "this end writes")
def listen(domain: str, path: str, receive_ring: int, send_ring: int, **how: Any) -> int:
    """Offer a vchan at PATH to DOMAIN, and serve the first client that comes."""

    def opened(xen: Domain) -> AbstractAsyncContextManager[VchanStream]:
        return accepted(xen, domain, path, left=receive_ring, right=send_ring)

    return perform(opened, **how)


@asynccontextmanager
async def accepted(xen: Domain, domain: str, path: str, **sizes: int) -> AsyncIterator[VchanStream]:
    """The first client's stream. The offer is taken back as soon as it has come, and whatever
    happens meanwhile, it is parted with."""
    async with AsyncExitStack() as stack:
        async with vchans.listen(xen, await find(xen, domain), path, **sizes) as listener:
            stream = await stack.enter_async_context(await listener.accept())
        yield stream


@vchan.command(short_help="Connect to a vchan that is offered.")
@common
def connect(domain: str, path: str, **how: Any) -> int:
    """Connect to the vchan that DOMAIN offers at PATH, once it does."""

    @asynccontextmanager
    async def opened(xen: Domain) -> AsyncIterator[VchanStream]:
        async with await vchans.connect(xen, await find(xen, domain), path) as stream:
            yield stream

    return perform(opened, **how)


async def find(xen: Domain, domain: str) -> int:
    """The domid that is meant."""
    return int(domain) if domain.isascii() and domain.isdecimal() else await xen.find(domain)


def perform(opened: Open, *, backend: str, stay: bool, wait: float | None) -> int:
    """Open it, pass bytes on, report what goes wrong; give the exit status."""
    screen = Screen()

    async def main(xen: Domain) -> None:
        task = asyncio.current_task()
        assert task is not None

        def end(number: signal.Signals) -> None:
            ENDING.told(number)
            task.cancel()

        with when_told(xen.loop, end):
            async with within(wait, opened(xen)) as stream:
                source = Input(sys.stdin.fileno() if sys.stdin else None)
                await pass_on(stream, source, Output(sys.stdout.fileno()), stay)

    try:
        with serving(sys.stdout):
            run(main, backend=backend, clock="wall")
    except BackendError as error:
        screen.failed(error)
        return NOT_TRIED
    except ActivationsError as error:
        screen.failed(error)
        return FAILED
    except BrokenPipeError:
        return PIPE_GONE
    except OSError as error:  # a disk that is full, say
        screen.failed(Unfinished(f"standard input or output: {error.strerror}"))
        return NOT_TRIED
    except asyncio.CancelledError:
        if ENDING.status is None:
            raise
        return ENDING.status
    except KeyboardInterrupt:
        screen.interrupted()
        return INTERRUPTED
    return WELL


@asynccontextmanager
async def within(
    seconds: float | None, opened: AbstractAsyncContextManager[VchanStream]
) -> AsyncIterator[VchanStream]:
    """The stream, if it is open after so long."""
    try:
        async with asyncio.timeout(seconds) as limit, opened as stream:
            limit.reschedule(None)
            yield stream
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unfinished(f"the other end did not come within {seconds:g} s") from None


# Passing bytes on


class Input:
    """A descriptor to be read while others work, or none (a shell's `<&-`), which is empty."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    async def receive(self) -> bytes:
        """What there is, at least a byte; empty at the end."""
        if self._descriptor is None:
            return b""
        with suppress(PermissionError):  # a file: it can be read at any time
            await wait_readable(self._descriptor)
        return os.read(self._descriptor, READ)


class Output:
    """A descriptor to be written while others work."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def send(self, data: bytes) -> None:
        with memoryview(data) as left:
            at = 0
            while at < len(left):
                at += os.write(self._descriptor, left[at : at + await self._room()])

    async def _room(self) -> int:
        """How many bytes it takes without blocking."""
        try:
            await wait_writable(self._descriptor)
        except PermissionError:  # a file
            return READ
        return PIPE_BUF


async def pass_on(stream: ByteStream, source: Input, sink: Output, stay: bool) -> None:
    """All of `source` to the other end, and what it sends to `sink`, until one of them ends.

    Raises `Unfinished` if the other end left before it was sent all, `VchanError` if it broke the
    protocol, `OSError` for what the descriptors say.
    """
    unsent = False

    async def send() -> None:
        nonlocal unsent
        empty = True
        try:
            while data := await source.receive():
                empty = False
                await stream.send(data)
        except VchanError:
            raise
        except BrokenResourceError:
            unsent = True  # what the other end sent before is still to be received
            return
        if not (empty or stay):
            group.cancel_scope.cancel()

    try:
        async with create_task_group() as group:
            group.start_soon(send)
            async for data in stream:
                await sink.send(data)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:  # `except*` would raise a group again before Python 3.11.4
        raise _plainly(errors.exceptions[0]) from None
    if unsent:
        raise Unfinished("the other end left before it had all of standard input")


def _plainly(error: BaseException) -> BaseException:
    """As the command reports it: what anyio calls broken, in its words, where it is no
    `ActivationsError`."""
    if isinstance(error, BrokenResourceError) and not isinstance(error, ActivationsError):
        return Unfinished(str(error))
    return error
