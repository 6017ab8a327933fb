"""A domain on Linux whose device is a stand-in, and whose store is a simulated one."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import xen_linux.lower
from activations import Domain, Scenario, XenError
from activations.lower import Foreign, Segment
from activations.outcome import Outcome, RunOptions
from activations.recording.session import Recording
from activations.scenario import Silent
from support.linux_fakes import FakeEventDevice, FakeResumes
from support.served_store import served_store
from xen_linux.grants import LinuxGrantTable
from xen_linux.identity import Identity
from xen_linux.lower import LinuxLowerHalf

PEER = random.Random(1)
"""Chance of the other domain's, which is no part of a recording."""


class FakePages:
    def __init__(self, domid: int, refs: Sequence[int], writable: bool) -> None:
        self.domid, self.refs = domid, tuple(refs)
        self.bytes = bytearray(4096 * len(refs))
        self.memory = memoryview(self.bytes) if writable else memoryview(self.bytes).toreadonly()

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        pass

    def close(self) -> None:
        self.memory.release()


class FakeGrantTable(LinuxGrantTable):
    """Pages that the test writes as the peer does."""

    def __init__(self) -> None:
        super().__init__(3, "PVH")
        self.made: list[FakePages] = []

    def share(self, domid: int, pages: int, writable: bool) -> Any:
        return self.map(domid, range(8, 8 + pages), True)

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> Any:
        if domid == 66:
            raise XenError(22, "GNTTABOP_map_grant_ref", "domain 66", "there is none")
        self.made.append(FakePages(domid, refs, writable))
        return self.made[-1]

    def copy(self, segments: Sequence[Segment]) -> list[int]:
        for segment in segments:
            if not isinstance(segment.dest, Foreign):
                memoryview(segment.dest).cast("B")[: segment.length] = PEER.randbytes(
                    segment.length
                )
        return [0] * len(segments)


class OnStandIn:
    """`linux`, where devices are stand-ins."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.device: FakeEventDevice
        self.resumes: FakeResumes
        self.table: FakeGrantTable
        self.live = False
        """Whether there is anything below: not in a replay."""
        self.path = folder / "it.rec"
        backend = sys.modules["xen_linux.backend"]
        patch.setattr(backend, "new_lower_half", self._make)
        patch.setattr(xen_linux.lower, "identify", lambda: Identity(4, "guest", "PVH"))

    def _make(self, name: str | None) -> LinuxLowerHalf:
        self.device, self.resumes, self.table = FakeEventDevice(), FakeResumes(), FakeGrantTable()
        return LinuxLowerHalf(0, name or "dom0", self.device, self.table, self.resumes)

    def peer(self, act: Callable[[], object]) -> None:
        """What another domain does, while there is one."""
        if self.live:
            act()

    def record(self, main: Any, trace: Path | None = None) -> Outcome:
        scenario = Scenario("it")
        scenario.domain("dom0")(main)
        self.live = True
        try:
            how = RunOptions(only="dom0", record=self.path, trace=trace)
            outcome: Outcome = xen_linux.backend.run(scenario, how, Silent())
        finally:
            self.live = False
        return outcome

    def twice(self, main: Any) -> Any:
        """What it gave as it was recorded, and in its replay: the same."""
        outcome = self.record(main)
        assert not outcome.failures
        replayed = Recording(self.path).replay(main)
        assert replayed == outcome.results["dom0"]
        return replayed


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OnStandIn]:
    with served_store(tmp_path, monkeypatch):
        yield OnStandIn(monkeypatch, tmp_path)


async def two_ports(xen: Domain) -> int:
    with xen.events.alloc_unbound(1) as one, xen.events.alloc_unbound(2):
        one.notify()
        await xen.store.write("/tool/x", 1)
        return one.number
