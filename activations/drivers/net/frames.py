"""A queue of frames, bounded: what a receiver does not take in time is dropped, and counted."""

from __future__ import annotations

import asyncio
from collections import deque


class FrameQueue:
    """Holds up to `capacity` frames, first come first served."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue of {capacity} frames: it must hold 1 or more")
        self.capacity = capacity
        self.dropped: int = 0
        """Frames for which there was no room."""
        self._frames: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._end: Exception | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Append the frame, or drop it: false where there is no room, or no receiver any more."""
        if self._end is not None or len(self._frames) >= self.capacity:
            self.dropped += 1
            return False
        self._frames.append(frame)
        self._arrived.set()
        return True

    async def put_patiently(self, frame: bytes) -> None:
        """Append the frame as soon as there is room. Raises what the queue was ended with."""
        while len(self._frames) >= self.capacity and self._end is None:
            self._room.clear()
            await self._room.wait()
        if self._end is not None:
            raise self._end.with_traceback(None)
        self.put(frame)

    async def get(self) -> bytes:
        """The next frame, waited for. Raises what the queue was ended with, once it is empty."""
        while not self._frames:
            if self._end is not None:
                raise self._end.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()
        return self._pop()

    def get_nowait(self) -> bytes | None:
        """The next frame; None if there is none."""
        return self._pop() if self._frames else None

    def end(self, error: Exception) -> None:
        """No frame will come any more; who waits is told why. What is there can be taken still."""
        self._end = self._end or error
        self._arrived.set()
        self._room.set()

    def _pop(self) -> bytes:
        self._room.set()
        return self._frames.popleft()
