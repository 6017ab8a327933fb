"""What the lab does with xenstore between two runs, on the simulated xenstored."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from xen_lab.inside import tidy
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.serve import SocketServer

STAYS = ("name", "vm", "control/shutdown", "device/suspend/event-channel", "backend/console/1/0/x")
GOES = ("mine", "data/key", "data/folder/key", "device/vbd/51712/state", "backend/pyvbd/1/x")


def tidied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keys: Iterable[str], names: Mapping[str, str]
) -> dict[str, bytes]:
    """What is left, by its path."""
    path = folder / "socket"

    def connect() -> int:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(path))
            return stream.detach()

    monkeypatch.setattr(tidy, "connect", connect)

    async def main() -> dict[str, bytes]:
        xenstored = Xenstored()
        toolstack.introduce_dom0(xenstored)
        async with SocketServer(xenstored, path):
            await asyncio.to_thread(write, keys)
            await asyncio.to_thread(tidy.tidy, names)
        database = xenstored.database
        found = {each: database.get(each) for each in database.paths()}
        return {each: node.value for each, node in found.items() if node is not None}

    def write(keys: Iterable[str]) -> None:
        with tidy.Talk() as store:
            for key in keys:
                store.write(key, "x")

    return asyncio.run(main())


def test_what_halves_left_goes_and_what_is_the_toolstacks_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = ("/local/domain/0", "/local/domain/7")
    keys = [f"{home}/{key}" for home in homes for key in (*STAYS, *GOES)]
    left = tidied(tmp_path, monkeypatch, keys, {}).keys()
    for home in homes:
        assert {f"{home}/{key}" for key in STAYS} <= left
        assert not {f"{home}/{key}" for key in GOES} & left
        assert {f"{home}/data", f"{home}/device", f"{home}/backend"} <= left


def test_guests_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"7": "alice", "8": "bob"}
    left = tidied(tmp_path, monkeypatch, [], names)
    assert {domid: left[f"/local/domain/{domid}/name"].decode() for domid in names} == names
