"""`PYTHONPATH=tests python -m soak [PART ...]`: the soak, or these parts of it.

    hostile     hostile inputs to every parser, ring and live driver
    kills       peers killed in the middle of a step, and started again
    events      events, of which none may be lost
    schedules   explored schedules, over which memory is to stay flat

    --short             little of each: half a minute on an idle machine
    --many N            so many inputs, kills, events or schedules, in place of each part's own
    --seed N            other ones; the same for the same number, in every process
    --only NAME[,NAME]  the subjects, kinds of kill, or searches, whose names begin so
    --batch N           begin with this batch: the line that a failure prints does it again
    --jobs N            so many subjects at once
    --lab               kills on a real Xen under QEMU, of programs and domains: five of each kind

Exits 0 where all held, 1 where something did not, with a line that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from xen_oracle.pieces import number

from activations.errors import BackendError, BlockedForever
from xen_lab import Lab

from . import at_once, flat, hostile, kills, on_lab
from .hostile import Broken, Fed
from .live import LIVE
from .peers import LostWrite
from .subjects import SUBJECTS

KINDS = {**kills.KINDS, **at_once.KINDS}
ALL = {each.name: each for each in (*SUBJECTS, *LIVE)}
NEWS = 30.0
"""Seconds from one line of progress to the next."""


class News:
    """Prints how far something is, at most every half minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last > NEWS:
            self._last = time.monotonic()
            print(f"  {text}", flush=True)


def main() -> int:
    given = _arguments()
    failed = sum(PARTS[part](given) for part in given.parts or PARTS)
    return 1 if failed else 0


def feed_all(given: argparse.Namespace) -> int:
    inputs = given.many or (2_000 if given.short else 1_000_000)
    names = only(given, ALL)
    if not names:
        return none_begins("subject", given.only, ALL)
    begun, failed = time.monotonic(), 0
    # Forked, as by default up to 3.13: they know what this process knows, and none stays behind.
    with ProcessPoolExecutor(given.jobs, get_context("fork")) as pool:
        again = [pool.submit(fed, name, inputs, given.seed, given.batch) for name in names]
        for each in again:
            try:
                print(each.result(), flush=True)
            except Broken as broken:
                failed += 1
                print(f"✗ {broken}", flush=True)
    what = f"{failed} broken" if failed else "none broken"
    subjects = f"{len(names)} subject{'s' * (len(names) > 1)}"
    print(f"hostile inputs: {subjects}, {what}, {time.monotonic() - begun:,.0f} s")
    return failed


def only(given: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those that were asked for."""
    return [name for name in names if name.startswith(tuple(given.only.split(",")))]


def none_begins(what: str, only: str, there: Iterable[str]) -> int:
    print(f"no {what} begins with {only!r}: there are {', '.join(there)}", file=sys.stderr)
    return 1


def fed(name: str, inputs: int, seed: int, first: int) -> str:
    """Feed a subject, with news of it; its line in the end."""
    subject, begun, news = ALL[name], time.process_time(), News()
    so_far = Fed()
    for so_far in hostile.feed(subject, inputs, seed, first):
        news(f"{name}: {so_far.inputs:,} of {inputs:,}")
    seconds = time.process_time() - begun
    return f"✓ {name:20} {so_far.inputs:>12,} inputs {seconds:>7,.0f} s  {subject.what}"


def kill_all(given: argparse.Namespace) -> int:
    if given.lab:
        return kill_all_on_lab(given)
    many = given.many or (30 if given.short else 1_000)
    asked = only(given, KINDS)
    if not asked:
        return none_begins("kind of kill", given.only, KINDS)
    return sum(kill_one(kind, many, given) for kind in asked)


def kill_one(kind: str, many: int, given: argparse.Namespace) -> int:
    """Machines with kills, until there are so many."""
    begun, batch = time.process_time(), given.batch
    so_far, news = kills.Killed(), News()
    while so_far.kills < many:
        try:
            so_far.add(kills.kill(kind, KINDS[kind], given.seed, batch))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"✗ {kind} killed: {type(error).__name__}: {error}")
            print(f"  kills --only {kind} --seed {given.seed} --batch {batch}", flush=True)
            return 1
        batch += 1
        news(f"{kind} killed: {so_far.kills:,} of {many:,}")
    print(f"✓ {kind} killed: {so_far}, {time.process_time() - begun:,.0f} s", flush=True)
    return 0


def kill_all_on_lab(given: argparse.Namespace) -> int:
    many = given.many or (1 if given.short else 5)
    asked = only(given, on_lab.KINDS)
    if not asked:
        return none_begins("kind of kill", given.only, on_lab.KINDS)
    with Lab(progress=lambda text: print(f"  {text}", flush=True)) as lab:
        return sum(kill_one_on_lab(lab, kind, many, given.seed) for kind in asked)


def kill_one_on_lab(lab: Lab, kind: str, many: int, seed: int) -> int:
    def say(outcome: on_lab.Survived) -> None:
        print(f"  {kind}: {outcome.kills} of {many}: {outcome.seconds[-1]:.1f} s", flush=True)

    try:
        print(f"✓ {kind}, on a real Xen: {on_lab.kill(lab, kind, many, seed, say)}", flush=True)
    except (AssertionError, LostWrite, BackendError) as error:
        print(f"✗ {kind}, on a real Xen: {error}", flush=True)
        return 1
    return 0


def lasting(what: str, again: str, run: Callable[[], tuple[int, flat.Memory]]) -> int:
    begun = time.process_time()
    try:
        many, memory = run()
    except (Broken, BlockedForever) as broken:
        print(f"✗ {what}: {broken}\n  {again}", flush=True)
        return 1
    seconds = time.process_time() - begun
    print(f"✓ {what}: {many:,}, {memory}, {seconds:,.0f} s", flush=True)
    return 0


def send_all(given: argparse.Namespace) -> int:
    many = given.many or (100_000 if given.short else 10_000_000)
    return lasting("events", f"events --many {many}", partial(flat.events, many, say=News()))


def explore_all(given: argparse.Namespace) -> int:
    many = given.many or (5_000 if given.short else 1_000_000)
    asked = only(given, flat.SEARCHES)
    if not asked:
        return none_begins("search", given.only, flat.SEARCHES)
    return sum(explore_one(name, many, given.seed) for name in asked)


def explore_one(name: str, many: int, seed: int) -> int:
    again = f"schedules --only {name} --seed {seed} --many {many}"
    many = many // flat.SEARCHES[name].one_in
    return lasting(
        f"schedules, {name}", again, partial(flat.schedules, name, many, seed, say=News())
    )


PARTS = {"hostile": feed_all, "kills": kill_all, "events": send_all, "schedules": explore_all}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="See docs/reliability.md.")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--many", type=number)
    parser.add_argument("--seed", type=number, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--jobs", type=number, default=1)
    parser.add_argument("--lab", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
