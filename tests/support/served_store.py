"""A loop of the backend `linux` where there is no Xen: the event device is a stand-in, and
xenstored a simulated one behind a real socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from activations import EventLoop
from support.linux_fakes import FakeEventDevice
from xen_linux import store as linux_store
from xen_linux.grants import LinuxGrantTable
from xen_linux.lower import LinuxLowerHalf
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.serve import SocketServer

Factory = Callable[[], EventLoop]


@contextmanager
def served_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    """What makes such loops, for dom0."""
    path = folder / "xenstored"
    monkeypatch.setattr(linux_store, "SOCKETS", (str(path),))
    begun, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        xenstored = Xenstored()
        toolstack.introduce_dom0(xenstored)
        async with SocketServer(xenstored, path):
            begun.set()
            await over.wait()

    def work() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        yield lambda: EventLoop(
            LinuxLowerHalf(0, "dom0", FakeEventDevice(), LinuxGrantTable(0, "PVH"))
        )
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
