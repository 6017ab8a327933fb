"""What the backends of this package offer beyond `Backend`, by the protocols of
`activations.offers`."""

from __future__ import annotations

import inspect

import pytest
from support.places import DOCS

import xen_lab
import xen_linux
import xen_sim
from activations import offers

OFFERED = {
    "lab": (xen_lab.backend, {"HasShell", "HasCache", "LendsDisks"}),
    "linux": (xen_linux.backend, {"HasStore", "ListsPorts"}),
    "sim": (xen_sim.backend, {"HasStoreServer", "ShowsPorts"}),
}
PROTOCOLS = {
    name: getattr(offers, name)
    for name in offers.__all__
    if getattr(getattr(offers, name), "_is_protocol", False)
}


@pytest.mark.parametrize("name", OFFERED)
def test_a_backend_offers_what_it_has_the_methods_of(name: str) -> None:
    backend, offered = OFFERED[name]
    assert {each for each, it in PROTOCOLS.items() if isinstance(backend, it)} == offered


def test_each_protocol_is_offered_by_a_backend_here_and_told_of_in_the_docs() -> None:
    page = DOCS / "how-to" / "write-a-backend.md"
    assert set().union(*(offered for _, offered in OFFERED.values())) == set(PROTOCOLS)
    assert [name for name in PROTOCOLS if f"`{name}`" not in page.read_text()] == []


@pytest.mark.parametrize("name", OFFERED)
def test_a_backend_takes_the_arguments_that_the_protocol_says(name: str) -> None:
    backend, offered = OFFERED[name]
    for protocol in map(PROTOCOLS.get, offered):
        methods = [each for each in vars(protocol) if not each.startswith("_")]
        assert methods
        for method in methods:
            _, *said = inspect.signature(getattr(protocol, method)).parameters.values()
            assert said == [*inspect.signature(getattr(backend, method)).parameters.values()]
