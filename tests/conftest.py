"""What all tests share: a guard against leaks, and a lab booted once.

The guard's fixtures look for what would be lost in silence. The rest speaks up by itself, in
warnings that are errors here: `LeakWarning` for ports and grants, `ResourceWarning` for loops,
sockets, files and processes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from weakref import WeakSet

import pytest
from hypothesis import HealthCheck, settings
from support import drawn, eager, reporting
from support.needs import LEFT_OUT, leave_out
from support.pace import patience
from support.side_by_side import LAB

import xen_lab
from activations import BackendError, EventLoop
from activations.lower import LowerHalf
from activations.own import own_tasks
from xen_lab import cache, emulator, image

# What was started in the background ignores Ctrl-C, or under nohup that its terminal is closed; and
# so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest.register_assert_rewrite("xen_oracle.facts")  # they assert, and are no test modules

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how busy the machine is says nothing about the code


TIMEOUT = 60
TIMEOUT_ON_THE_LAB = 300
"""Seconds. There the first test waits for the boot, and others for guests that they need first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    for module in (reporting, eager):
        module.pytest_addoption(parser)


def pytest_configure(config: pytest.Config) -> None:
    for module in (reporting, eager):
        module.pytest_configure(config)
    config.pluginmanager.register(drawn)


def descriptors() -> set[tuple[str, str]]:
    """The open descriptors of this process, each with what it is open on."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that listed the folder
            found.add((link.name, str(link.readlink())))
    return found


@pytest.fixture(autouse=True)
def leaves_no_descriptors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors open. Those of the lab are its own: it opens them as
    its guests are first asked for."""
    before = descriptors()
    yield
    if not request.node.get_closest_marker("lab"):
        assert not descriptors() - before, "descriptors were left open"


@pytest.fixture(autouse=True)
def leaves_no_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that closes one of our loops with tasks pending."""
    pending: list[asyncio.Task[object]] = []
    close = EventLoop.close

    @wraps(close)
    def note_and_close(loop: EventLoop) -> None:
        pending.extend(asyncio.all_tasks(loop) | own_tasks(loop))
        close(loop)

    monkeypatch.setattr(EventLoop, "close", note_and_close)
    yield
    assert not pending, "tasks were left pending"


@pytest.fixture(autouse=True)
def leaves_no_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves one of our loops open. (asyncio warns of it too, but only when the
    garbage collector comes by, in whichever test that is.)"""
    made: WeakSet[EventLoop] = WeakSet()
    init = EventLoop.__init__

    def note_and_make(loop: EventLoop, lower: LowerHalf) -> None:
        init(loop, lower)
        made.add(loop)

    monkeypatch.setattr(EventLoop, "__init__", note_and_make)
    yield
    left = [loop for loop in made if not loop.is_closed()]
    for loop in left:
        loop.close()
    assert not left, "loops were left open"


@pytest.fixture(scope="session")
def lab_parts() -> None:
    """What a lab is made from: fetched once, and all lab tests left out where it cannot be had.
    Once it is there, not to boot is a failure."""
    folder = cache.default()
    try:
        emulator.ensure(print, folder)
        image.ensure(print, folder)
    except BackendError as error:
        leave_out("tests on a real Xen", str(error))


@pytest.fixture(autouse=True)
def has_lab_parts(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("lab"):
        request.getfixturevalue("lab_parts")


@pytest.fixture(scope="session")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the lab has as a disk: of an odd size, and of a name that QEMU's options would
    take apart."""
    file = tmp_path_factory.mktemp("lent") / "a, b=c"
    file.write_bytes(os.urandom(100_001))
    return file


@pytest.fixture(scope="session")
def lab(lab_parts: None, lent: Path) -> Iterator[xen_lab.Lab]:
    """A real Xen, booted once for all tests marked `lab`; scenarios run on it too."""
    shape = xen_lab.Shape(disk=lent)
    with xen_lab.Lab(command=True, shape=shape) as booted, xen_lab.backend.using(booted):
        yield booted


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is long runs when `-m` speaks of it. No test may hang for ever: how long it has is what
    its mark says, at this machine's pace."""
    for file in {item.path for item in items if item.get_closest_marker("lab")}:
        if not LAB.search(file.read_text("utf-8")):
            raise pytest.UsageError(f"{file} has tests on a real Xen: it has to say mark.lab")
    if "long" not in config.getoption("-m"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
    for item in items:
        mark = item.get_closest_marker("timeout")
        usual = TIMEOUT_ON_THE_LAB if item.get_closest_marker("lab") else TIMEOUT
        seconds = mark.args[0] if mark else usual
        item.add_marker(pytest.mark.timeout(patience(seconds)), append=False)


def set_aside() -> None:
    """What is there by now stays: pytest's own, above all. Tests and programs collect garbage by
    hand, and would look through it all, a second each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    set_aside()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    if nextitem is None or nextitem.path != item.path:
        set_aside()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """One line at the end for whatever was left out for want of something."""
    yield
    reasons = (report.longrepr[2] for report in terminalreporter.getreports("skipped"))
    found = {reason.partition(LEFT_OUT)[2] for reason in reasons if LEFT_OUT in reason}
    if found:
        terminalreporter.write_line(LEFT_OUT + "; ".join(sorted(found)), yellow=True)


@pytest.fixture
def kernel_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels in C are kept among what the tests keep, and not in the user's cache."""
    assert request.config.cache is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(request.config.cache.mkdir("kernels")))
