"""An interface that writes down what goes through it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from dpkt import pcap

import activations
from activations import Domain
from activations.cli.attach import _logged
from activations.cli.disks import CannotServe
from activations.drivers.net import Tap, cable
from activations.drivers.net.logged import Logged

FRAMES = [bytes([number]) * 60 for number in range(5)]


def frames_in(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [frame for _, frame in pcap.Reader(file)]


def test_each_frame_is_in_the_file_as_soon_as_it_has_passed_either_way(tmp_path: Path) -> None:
    path = tmp_path / "wire.pcap"

    async def main(xen: Domain) -> None:
        near, far = cable()
        with closing(Logged(far, path)) as logged:
            await near.send(FRAMES[0])
            assert await logged.receive() == FRAMES[0]
            assert frames_in(path) == FRAMES[:1]
            await logged.send(FRAMES[1])
            assert await near.receive() == FRAMES[1]
            assert frames_in(path) == FRAMES[:2]
            assert logged.receive_nowait() is None
            await near.send(FRAMES[2])
            assert logged.receive_nowait() == FRAMES[2]
            assert frames_in(path) == FRAMES[:3]
            logged.close()

    activations.run(main)


def test_a_file_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "no folder" / "wire.pcap"
    with pytest.raises(CannotServe, match="cannot be written: No such file"):
        _logged(Tap.__new__(Tap), file)
