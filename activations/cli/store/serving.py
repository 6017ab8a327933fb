"""Serving a simulated xenstored to other programs."""

from __future__ import annotations

import asyncio
import errno
import shlex
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from activations.cli.ending import ENDING, when_told
from activations.cli.output import write


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


def why_not(socket: Path, error: OSError) -> str:
    """In plain words, why it cannot be served there."""
    if error.errno != errno.EADDRINUSE:
        return error.strerror or str(error)
    if socket.is_socket():
        return "another server listens there already: end it, or serve on another path"
    return "a file is there that is not a socket: remove it, or serve on another path"
