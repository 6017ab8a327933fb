"""What changes in a store, as it does, and a command for each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

from activations.store import Watch
from activations.store.wire import octets

CHANGED = b"XENSTORE_PATH"


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
