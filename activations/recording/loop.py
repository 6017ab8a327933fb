"""The loop of a domain that is recorded, or replayed, and what may be registered with it.

Descriptors, threads, processes and signals of the program's own are refused, since what comes from
there would not be noted.
"""

from __future__ import annotations

import gc
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from activations.loop import EventLoop
from activations.lower import Ready
from activations.outside import refuse_outside
from activations.recording.form import RecordingError

if TYPE_CHECKING:
    from activations.recording.seam import JournalHalf


def refuse(what: str) -> NoReturn:
    raise RecordingError(
        f"{what} cannot be recorded: of descriptors, threads, processes and signals of a program's "
        "own nothing is noted; run it without --record"
    )


class RecordedLoop(EventLoop):
    """A loop on a lower half that goes by a journal."""

    def __init__(self, lower: JournalHalf) -> None:
        with lower.opening():  # the pipe by which a loop wakes itself
            super().__init__(lower)

    async def shutdown_asyncgens(self) -> None:
        """Generators that have ended may wait for the garbage collector, here or there."""
        gc.collect()
        await super().shutdown_asyncgens()


refuse_outside(RecordedLoop, refuse)


class Descriptors(selectors.BaseSelector):
    """What asyncio registers: the loop's own pipe, and connections to xenstored. In a replay they
    are kept, and nothing ever happens to them by itself."""

    def __init__(self, below: selectors.BaseSelector | None) -> None:
        self._below = below
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.opening = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if not self.opening:
            refuse("a descriptor")
        if self._below is not None:
            return self._below.register(fileobj, events, data)
        key = selectors.SelectorKey(fileobj, fileobj, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._below.unregister(fileobj) if self._below else self._keys.pop(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._below is not None:
            return self._below.modify(fileobj, events, data)
        self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._keys[fileobj]

    def select(self, timeout: float | None = None) -> Ready:
        return []  # the lower half says what is ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._below.get_map() if self._below else self._keys

    def close(self) -> None:
        if self._below is not None:
            self._below.close()
