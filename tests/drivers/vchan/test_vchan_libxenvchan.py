"""vchan against Xen's own library and its proxy, on a real Xen: Python's end in a guest, C's in
dom0."""

from __future__ import annotations

import pytest
from support.debian import compiled, unpacked
from support.parameters import scenarios_in
from support.places import PEERS

from activations import scenario
from activations.scenario import Silent
from xen_lab import Lab

HERE = PEERS / "libxenvchan"
SCENARIOS = HERE / "scenarios.py"
PROXY = HERE / "proxy.py"
PROGRAM = "/tmp/vchan_peer"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The C program, built against the library in the lab's image."""
    folder = tmp_path_factory.mktemp("libxenvchan")
    what = "vchan against libxenvchan"
    root = unpacked(what, ["libxen-dev", "libxenmisc4.17"])
    flags = ("-lxenvchan", "-Wl,--allow-shlib-undefined")
    return compiled(what, folder / "peer", root, HERE / "peer.c", *flags).read_bytes()


@pytest.fixture
def lab_with_peer(lab: Lab, peer: bytes) -> Lab:
    lab.put("dom0", PROGRAM, peer)
    return lab


@pytest.mark.lab
@pytest.mark.parametrize("target", scenarios_in(SCENARIOS))
def test_against_libxenvchan(target: str, lab_with_peer: Lab) -> None:
    scenario.load(target).run("lab")


@pytest.mark.lab
@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", scenarios_in(PROXY))
def test_against_the_socket_proxy(target: str, lab: Lab) -> None:
    """What one end sends the other hears, through a Unix socket and the proxy."""
    outcome = lab.run(scenario.load(target), Silent(), timeout=300)
    assert not outcome.failures
    guest, dom0 = outcome.results["guest"], outcome.results["dom0"]
    assert (dom0["heard"], guest["heard"]) == (guest["sent"], dom0["sent"])
