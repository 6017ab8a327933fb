"""An interface whose every frame is written into a pcap file, for tcpdump and Wireshark.

dpkt is imported where it is used: most interfaces are not logged.
"""

from __future__ import annotations

import time
from pathlib import Path

from activations.drivers.net.wire import Interface

SNAPLEN = 65_535


class Logged:
    """`inner`, and a file of what goes through it, both ways. Times are Unix time.

    Each frame is in the file when the next is passed on. Raises `OSError` if the file cannot be
    made, and from `send` and `receive` if it cannot be written.
    """

    def __init__(self, inner: Interface, path: Path) -> None:
        from dpkt import pcap

        self._inner = inner
        self._file = path.open("wb", buffering=0)
        self._writer = pcap.Writer(self._file, snaplen=SNAPLEN)

    def close(self) -> None:
        """Close the file; `inner` stays open. Twice is harmless."""
        self._file.close()

    async def send(self, frame: bytes) -> None:
        await self._inner.send(self._logged(frame))

    async def receive(self) -> bytes:
        return self._logged(await self._inner.receive())

    def receive_nowait(self) -> bytes | None:
        frame = self._inner.receive_nowait()
        return None if frame is None else self._logged(frame)

    def _logged(self, frame: bytes) -> bytes:
        self._writer.writepkt_time(frame, time.time())
        return frame
