"""What a program learns past its lower half: `random`, `os.urandom` (so `secrets` and `uuid`), and
the time. Inside `by_journal` each goes by the journal.

`random` is seeded with a number that is noted; the others are noted call by call, secrets too.
What a module took before by `from time import time` goes past this, and what threads ask is not
noted; log records carry the time they are made at. A program that decides by such a time differs in
a replay.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from activations.recording.form import octets, text
from activations.recording.journal import Journal

CLOCKS = ("time", "monotonic", "perf_counter", "process_time")
PAST = ("logging", "asyncio", "selectors", "threading", "structlog", "activations.recording")
"""Modules whose calls are not the program's."""


@contextmanager
def by_journal(journal: Journal, *, replayed: bool) -> Iterator[None]:
    """Inside the block chance and time go by the journal."""
    state = random.getstate()
    random.seed(journal.ask("seed", [], lambda: int.from_bytes(os.urandom(8), "little")))
    replaced: list[tuple[Any, str, Any]] = []

    def replace(module: Any, name: str, value: Any) -> None:
        replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def noted(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            if _past():
                return function(*arguments)
            return journal.ask(kind, list(arguments), lambda: function(*arguments)) or 0

        return asked

    urandom = os.urandom

    def random_bytes(size: int) -> bytes:
        if _past():
            return urandom(size)
        said = journal.ask("urandom", [size], lambda: text(urandom(size)))
        return octets(said or "\0" * size)

    def uuid1(*arguments: Any) -> uuid.UUID:
        said = journal.ask("uuid1", list(arguments), lambda: made_uuid(*arguments).hex)
        return uuid.UUID(said or "0" * 32)

    made_uuid = uuid.uuid1
    try:
        replace(os, "urandom", random_bytes)
        replace(random, "_urandom", random_bytes)
        replace(uuid, "uuid1", uuid1)
        for name in CLOCKS:
            replace(time, name, noted(getattr(time, name), name))
            replace(time, f"{name}_ns", noted(getattr(time, f"{name}_ns"), f"{name}_ns"))
        if replayed:
            replace(time, "sleep", lambda seconds: None)
        yield
    finally:
        for module, name, value in reversed(replaced):
            setattr(module, name, value)
        random.setstate(state)


def _past() -> bool:
    """Whether it is not the program that asks."""
    asking = str(sys._getframe(2).f_globals.get("__name__"))
    ours = threading.current_thread() is threading.main_thread()
    return not ours or asking.startswith(PAST)
