"""vchan against Xen's own library and its proxy, on a real Xen: Python's end in a guest, C's in
dom0."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from needs import leave_out

from activations import BackendError, scenario
from xen_lab import Lab, packages

HERE = Path(__file__).parent / "libxenvchan"
SCENARIOS = HERE / "scenarios.py"
PROXY = HERE / "proxy.py"
PROGRAM = "/tmp/vchan_peer"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The C program, built against the library in the lab's image."""
    folder = tmp_path_factory.mktemp("libxenvchan")
    if shutil.which("cc") is None:
        leave_out("vchan against libxenvchan", "needs a C compiler")
    try:
        debs = packages.fetch(["libxen-dev", "libxenmisc4.17"], folder, folder)
    except BackendError as error:
        leave_out("vchan against libxenvchan", str(error))
    for deb in debs.values():
        packages.unpack(deb, folder / "root")
    program = folder / "peer"
    subprocess.run(
        [
            *("cc", "-O2", "-Wall", "-o", str(program), str(HERE / "peer.c")),
            *("-I", str(folder / "root/usr/include")),
            *("-L", str(folder / "root/usr/lib/x86_64-linux-gnu"), "-lxenvchan"),
            "-Wl,--allow-shlib-undefined",
        ],
        check=True,
    )
    return program.read_bytes()


@pytest.fixture
def lab_with_peer(lab: Lab, peer: bytes) -> Lab:
    lab.put("dom0", PROGRAM, peer)
    return lab


@pytest.mark.lab
@pytest.mark.parametrize("name", scenario.names(SCENARIOS))
def test_against_libxenvchan(name: str, lab_with_peer: Lab) -> None:
    scenario.load(f"{SCENARIOS}::{name}").run("lab")


@pytest.mark.lab
@pytest.mark.parametrize("name", scenario.names(PROXY))
def test_against_the_socket_proxy(name: str, lab: Lab) -> None:
    """What one end sends the other hears, through a Unix socket and the proxy."""
    results = scenario.load(f"{PROXY}::{name}").run("lab")
    guest, dom0 = results["guest"], results["dom0"]
    assert (dom0["heard"], guest["heard"]) == (guest["sent"], dom0["sent"])
