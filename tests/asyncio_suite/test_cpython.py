"""CPython's own tests of event loops, on our loop and on the stock one.

The classes in `test.test_asyncio` are mixins that ask for a loop by `create_event_loop`. Each runs
twice, under this project's rules (warnings are errors, nothing is left behind), and the last test
holds the verdicts against each other.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import unittest
from collections.abc import Callable

import pytest
from support.needs import leave_out

import activations

try:
    from test.test_asyncio import test_events, test_sendfile, test_sock_lowlevel, utils
except ModuleNotFoundError:
    version = "{}.{}".format(*sys.version_info)
    leave_out("CPython's own tests", f"Debian: apt-get install libpython{version}-testsuite")

# Up to 3.13 a test of a loop has to set a watcher of child processes, which 3.14 has no more.
OF_ANY_LOOP: type = getattr(test_events, "UnixEventLoopTestsMixin", test_events.EventLoopTestsMixin)

SUBJECTS: dict[str, tuple[type, ...]] = {
    "Events": (OF_ANY_LOOP, test_events.SubprocessTestsMixin),
    "Sockets": (test_sock_lowlevel.BaseSockTestsMixin,),
    "Sendfile": (test_sendfile.SendfileTestsBase,),
}

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": lambda: asyncio.SelectorEventLoop(selectors.EpollSelector()),
    "ours": lambda: activations.new_event_loop("sim", clock="wall"),
}


def cases(subject: str, whose: str) -> type[unittest.TestCase]:
    """The tests of one subject on one kind of loop."""
    create = LOOPS[whose]
    body = {"create_event_loop": lambda self: create(), "__module__": __name__}
    return type(f"Test{subject}_{whose}", (*SUBJECTS[subject], utils.TestCase), body)


TestEvents_stock, TestEvents_ours = cases("Events", "stock"), cases("Events", "ours")
TestSockets_stock, TestSockets_ours = cases("Sockets", "stock"), cases("Sockets", "ours")
TestSendfile_stock, TestSendfile_ours = cases("Sendfile", "stock"), cases("Sendfile", "ours")


def test_the_verdicts_are_the_same(verdicts: dict[str, dict[str, str]]) -> None:
    """Each test passes, fails or is skipped on our loop as it does on the stock one."""
    if not verdicts:
        pytest.skip("none of CPython's tests has run")
    assert verdicts["ours"] == verdicts["stock"]
