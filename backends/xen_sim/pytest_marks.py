"""What a test asks of the simulator: by its marks, by the fixtures it takes, by the command line.

A test is explored if its mark says anything of a search, or if the command line has each test
explored that can be. What cannot be is refused as tests are collected, with what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any
from unittest import TestCase

import pytest

MACHINE, DOMAIN = "xen_machine", "xen_domain"
"""The fixtures that a test takes."""
SEARCH = {"explore", "seconds", "strategy", "limit", "jobs", "faults", "late"}
"""What a mark says of a search: any of them asks for one."""
NUMBERS = {
    "explore": ("runs", 1),
    "jobs": ("processes", 1),
    "limit": ("deviations", 0),
    "late": ("steps", 0),
}
"""Those that are numbers: of what, and the least that each may be."""
OPTIONS = SEARCH | {"seed", "domains"}
RUNS = 1000
"""Of a search whose mark does not say."""


# What it asks


def is_marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("xen") is not None


def options_of(item: pytest.Item) -> dict[str, Any]:
    """What its marks say; of what several say, the nearest one's."""
    said: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("xen"))):
        said |= mark.kwargs
    return said


def seed_of(item: pytest.Item) -> int | None:
    """By which its machine is scheduled, or its search goes: the command line's, or its mark's."""
    given: int | None = item.config.getoption("--xen-seed")
    return given if given is not None else options_of(item).get("seed")


def runs_of(item: pytest.Item) -> int | None:
    """In how many runs it is explored, a token's one among them; None where it is not."""
    if not is_explorable(item):
        return None
    if item.config.getoption("--xen-replay") is not None:
        return RUNS
    given: int | None = item.config.getoption("--xen-explore")
    if given is not None:
        return given or None
    said = options_of(item)
    return said.get("explore", RUNS) if SEARCH & said.keys() else None


def is_ours(item: pytest.Function) -> bool:
    """Whether it runs in a domain, or takes a machine."""
    return is_marked(item) if iscoroutinefunction(body_of(item)) else MACHINE in fixtures_of(item)


def is_explorable(item: pytest.Item) -> bool:
    """Whether it can be run again and again, on a machine that is new each time: what a fixture has
    done to one is done once."""
    return (
        isinstance(item, pytest.Function) and is_ours(item) and MACHINE not in _fixtures_take(item)
    )


def fixtures_of(item: pytest.Function) -> set[str]:
    """The fixtures that the test itself takes."""
    return set(item._fixtureinfo.argnames)


def _fixtures_take(item: pytest.Function) -> set[str]:
    """The fixtures that its fixtures take."""
    taken: set[str] = set()
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():
        for definition in reversed(definitions):
            taken.update(definition.argnames)
            if name not in definition.argnames:  # else it takes the one that it overrides
                break
    return taken


def body_of(item: pytest.Function) -> Any:
    """The test as it was written. pytest-asyncio has a plain function in a coroutine's place."""
    body = item.obj
    while not iscoroutinefunction(body) and hasattr(body, "__wrapped__"):
        body = body.__wrapped__
    return body if iscoroutinefunction(body) else item.obj


# What cannot be


def wrong_with(item: pytest.Function) -> str | None:
    """What is wrong with a test, and what would be right."""
    return _wrong_in_marks(item) or _wrong_with_fixtures(item)


def _wrong_in_marks(item: pytest.Function) -> str | None:
    said, is_coroutine = options_of(item), iscoroutinefunction(body_of(item))
    if any(mark.args for mark in item.iter_markers("xen")):
        return "xen() is told its options by name: xen(explore=200)"
    if unknown := said.keys() - OPTIONS:
        return f"xen() knows no {', '.join(unknown)}: {', '.join(sorted(OPTIONS))}"
    for name, (counted, least) in NUMBERS.items():
        if name in said and not (_is_number(said[name]) and said[name] >= least):
            return f"{name}={said[name]!r} is not a number of {counted}: give {least} or more"
    if not _is_number(said.get("seed", 0)):
        return f"seed={said['seed']!r} is not a whole number"
    if "domains" in said and not is_coroutine:
        return "domains= is for coroutine functions; a plain one boots its own"
    domains = said.get("domains", {})
    if not isinstance(domains, Mapping) or "dom0" in domains:
        return "domains= says what runs beside dom0, which the test is: {'guest': client}"
    if is_marked(item) and is_coroutine and item.cls and issubclass(item.cls, TestCase):
        return (
            "unittest runs its coroutine functions on a loop of its own: write a class that is not "
            "a TestCase"
        )
    return None


def _wrong_with_fixtures(item: pytest.Function) -> str | None:
    marked, is_coroutine = is_marked(item), iscoroutinefunction(body_of(item))
    takes = fixtures_of(item)
    if marked and getattr(item.obj, "is_hypothesis_test", False):
        return (
            "hypothesis calls it once for each example, and each needs a machine of its own: make "
            "it in the test, by xen_sim.Machine(), and leave out the mark"
        )
    if DOMAIN in _fixtures_take(item):
        return f"a fixture takes `{DOMAIN}`, which is there as the test runs, and no sooner"
    if DOMAIN in takes and not is_coroutine:
        return (
            f"`{DOMAIN}` is the domain that a coroutine function runs in: write `async def`, or "
            f"take `{MACHINE}`"
        )
    if DOMAIN in takes and not marked:
        return (
            f"`{DOMAIN}` is for tests marked xen; where another plugin runs the test on our loop, "
            "its domain is activations.current()"
        )
    if marked and not is_coroutine and MACHINE not in item.fixturenames:
        return f"a test marked xen takes `{MACHINE}`"
    if SEARCH & options_of(item).keys() and not is_explorable(item):
        return (
            f"a test that is explored takes `{MACHINE}` itself, and no fixture of its does: it is "
            "new in each run"
        )
    return None


def _is_number(said: object) -> bool:
    return isinstance(said, int) and not isinstance(said, bool)
