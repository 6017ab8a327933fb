"""A peer that writes anything into its state and keys, as fast as xenstore takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from activations.store import Store
from activations.xenbus import XenbusState

STATES = [*(str(int(state)) for state in XenbusState), "", "-1", "9", "99999", "four", "4 ", "\0"]
VALUES = ["0", "1", "2", "3", "8", "9", "-1", "", "x" * 900, "4294967295", "4294967296", "\xff"]
MOVES = 60


async def misbehave(store: Store, path: str, keys: Sequence[str], random: Random) -> None:
    """Write states in any order, nonsense among them, and take these keys of a device away, or fill
    them with anything."""
    for _ in range(MOVES):
        key = random.choice(keys)
        if random.random() < 0.5:
            await store.write(f"{path}/state", random.choice(STATES))
        elif random.random() < 0.3:
            await take_away(store, path, key)
        else:
            await store.write(f"{path}/{key}", random.choice(VALUES))
        await asyncio.sleep(random.choice([0, 0, 0.001, 0.1]))


async def take_away(store: Store, path: str, *keys: str) -> None:
    """Those of them that are there."""
    for key in keys:
        with suppress(OSError):
            await store.rm(f"{path}/{key}")
