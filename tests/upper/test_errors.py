"""Errors, as they come to whoever catches them elsewhere than where they were raised."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from errno import EINVAL, EIO, ENOENT, ENOSPC
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from activations import ActivationsError, Domain, DomainFailed, PortClosed, Scenario, XenError
from activations.abi.xs_wire import MessageType
from activations.drivers.block.errors import DiskError, DiskGone, ImageInUse, UnfitImage
from activations.drivers.net.errors import BadPacket
from activations.store import StoreError
from activations.store.errors import QuotaError, StoreClosed
from activations.vchan.errors import VchanError
from activations.xenbus import HandshakeTimeout

ERRORS = [
    PortClosed("port 3 of guest was closed"),
    XenError(EINVAL, "EVTCHNOP_send", "dom0: port 7", "bind it first"),
    StoreError(ENOENT, MessageType.READ, "/local/domain/3/name"),
    StoreClosed(MessageType.WATCH, "data/a", "xenstored has gone"),
    QuotaError(ENOSPC, MessageType.WRITE, "data/a", "nodes", "domain 3"),
    DomainFailed({"dom0": "Traceback", "guest": "Traceback"}),
    DiskError(EIO, "read", "the back end failed"),
    DiskGone("it was unplugged"),
    ImageInUse(Path("disk.img"), "is in use"),
    UnfitImage(Path("disk.img"), "is empty"),
    BadPacket([3, None, 4], "it is too long"),
    VchanError("the other end claims more than the ring holds"),
    HandshakeTimeout("vbd 51712 of domain 3 does not connect"),
]


def pickled(error: ActivationsError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("copied", [pickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copy_of_an_error_says_what_the_error_says(
    error: ActivationsError, copied: Callable[[ActivationsError], Any]
) -> None:
    error.add_note("in the first run")
    again = copied(error)
    assert type(again) is type(error)
    assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
    assert vars(again) == vars(error)
    if isinstance(error, OSError):
        assert (again.errno, again.strerror) == (error.errno, error.strerror)
        assert again.filename == error.filename


def run_it() -> None:
    scenario = Scenario("fails")

    @scenario.domain("guest")
    async def guest(xen: Domain) -> None:
        await xen.store.read("data/nothing")

    scenario.run()


def test_a_scenario_that_fails_in_a_pool_of_processes_fails_as_here() -> None:
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        failure = pool.submit(run_it).exception()
    assert isinstance(failure, DomainFailed)
    assert "XS_READ data/nothing: No such file" in failure.failures["guest"]
