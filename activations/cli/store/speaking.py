"""Speaking to a store: which one it is, and its refusals in plain words."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from activations import backend as backends
from activations.cli.ending import status_of
from activations.cli.output import JsonLines, Screen
from activations.cli.store.nodes import escaped
from activations.errors import ActivationsError, BackendError
from activations.lower import StoreConnection
from activations.offers import HasStore
from activations.running import run_on
from activations.store import Store, StoreError
from activations.store.socket import connect

Work = Callable[[Store], Awaitable[None]]

REASONS = {
    errno.ENOENT: "no such path: {}",
    errno.EACCES: "{}: xenstore does not allow this domain to do that",
    errno.EINVAL: "{}: xenstore takes no such path or value",
    errno.EPERM: "{}: xenstore does not allow this domain to do that",
}


class Refused(ActivationsError):
    """xenstore refused, in plain words."""


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
