"""Partial-order reduction leaves out no end: held against searches that reduce nothing.

Two runs that end in the same memory, with the same results, are one end. A run that is stopped
where a promise was broken has no end of its own: what was found counts.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from support.drawn import drawn
from support.parameters import one_in

from activations import BackendError
from xen_sim import PlainGuest, Solo5
from xen_sim.explore.engine import Program, Run
from xen_sim.explore.finding import DEADLOCK, LOST_WAKEUP
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.pair import pair
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import ONE_OF_EACH, Effort, explore
from xen_sim.explore.strategies import Claim, Strategy
from xen_sim.explore.strategies.bounded import Bounded
from xen_sim.explore.strategies.chance import Guided, Walk
from xen_sim.explore.strategies.pct import Pct
from xen_sim.explore.strategies.reduced import Reduced, ReducedTape
from xen_sim.explore.verdict import EXHAUSTED
from xen_sim.guests import catalogue
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5_2020 import with_faults

KERNELS = ("solo5", "mini-os", "linux", "linux-fifo", "freebsd")
DELIVERIES: tuple[Delivery, ...] = ("vector", "callback", "pv")
End = int | str


def ends(engine: Programs, strategy: Strategy, most: int = 10_000) -> tuple[set[End], int, bool]:
    """The ends that a strategy comes to, in how many runs, and whether these were all."""
    found: set[End] = set()
    runs = 0
    with engine.session():
        while runs < most and (recipe := strategy.next()) is not None:
            tape = recipe.tape()
            run = engine.run(tape)
            runs += 1
            if not (isinstance(tape, ReducedTape) and tape.cut):
                found.add(end(run))
            strategy.learn(recipe, run)
    return found, runs, strategy.claim() == Claim(None)


def end(run: Run) -> End:
    if run.finding is None or run.finding.kind in (LOST_WAKEUP, DEADLOCK):
        return run.state
    return run.finding.signature


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_lower_half_comes_to_the_same_ends(kernel: str, delivery: Delivery) -> None:
    engine = lower_half(catalogue.find(kernel), sends=1, delivery=delivery)
    every, runs, exhausted = ends(engine, Bounded())
    reduced, fewer, _ = ends(engine, Reduced())
    assert exhausted
    assert reduced == every
    assert fewer * 10 < runs


@pytest.mark.parametrize("fault", one_in(4, [1, 2, 3, 4]))
def test_no_other_strategy_comes_to_an_end_that_it_leaves_out(fault: int) -> None:
    engine = lower_half(with_faults(fault), rests=True)
    reduced, _, exhausted = ends(engine, Reduced())
    assert exhausted
    for strategy in (Bounded(), Walk(1), Pct(1), Guided(1)):
        assert ends(engine, strategy, 400)[0] <= reduced, strategy.name


# Programs by chance

Operation = tuple[str, int, int]
ALONE = ("write", "read", "xchg", "bts", "yield", "sleep")
WITH_PORTS = ("send", "take", "mask", "unmask")


def act(guest: PlainGuest, words: list[int], ports: list[int], what: Operation) -> object:
    name, index, value = what
    port = ports[value % len(ports)]
    actions: dict[str, Callable[[], object]] = {
        "write": lambda: words.__setitem__(index, value),
        "read": lambda: words[index],
        "xchg": lambda: guest.kernel.lock.xchg(words, index, value),
        "bts": lambda: guest.kernel.lock.bts(words, index, value),
        "yield": lambda: guest.xen.yield_(),
        "sleep": lambda: guest.sleep(100 * value),
        "send": lambda: guest.send(port),
        "take": lambda: tuple(guest.take()),
        "mask": lambda: guest.kernel.mask(port),
        "unmask": lambda: guest.kernel.unmask(port),
    }
    try:
        return actions[name]()
    except Exception as error:  # also an outcome
        return repr(error)


def by_chance(seed: int) -> Programs:
    """Two or three guests on kernels drawn by chance, each with a port to each other one, and a
    page that all see."""
    random = Random(seed)
    count = random.choice((2, 2, 3))
    kernels: list[type[Kernel]] = [catalogue.find(random.choice(KERNELS)) for _ in range(count)]
    deliveries = [random.choice(DELIVERIES) for _ in range(count)]
    longest = 4 if count == 2 else 2
    programs = [
        [
            (random.choice(ALONE + WITH_PORTS), random.randrange(2), random.randrange(1, 9))
            for _ in range(random.randint(1, longest))
        ]
        for _ in range(count)
    ]

    def body(machine: ExploredMachine) -> object:
        words: list[list[int]] = []
        ports: list[list[int]] = [[] for _ in range(count)]

        def main(number: int) -> Callable[[PlainGuest], object]:
            def run(guest: PlainGuest) -> object:
                mine, page = ports[number], words[number]
                return [str(act(guest, page, mine, each)) for each in programs[number]]

            return run

        guests = [
            machine.plain(
                f"guest{number}" if number else "dom0",
                main(number),
                kernel=kernels[number],
                delivery=deliveries[number],
            ).guest
            for number in range(count)
        ]
        for here in range(count):
            for there in range(here + 1, count):
                port = guests[here].alloc_unbound(there)
                ports[here].append(port)
                ports[there].append(guests[there].bind_interdomain(here, port))
        for guest in guests:
            guest.take()
        page = guests[0].platform.new_frame()
        words += [page.view("items", 0, 16, "Q", guest.cpu.before) for guest in guests]  # type: ignore[misc]
        return machine.run()

    return Programs(Program("chance", f"chance {seed}"), body, reducible=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("first", "count"), [(0, 4), *drawn(1, 32)])
def test_a_program_drawn_by_chance_comes_to_the_same_ends(first: int, count: int) -> None:
    reduced_whole = whole = several = 0
    for seed in range(first, first + count):
        reduced, _, all_reduced = ends(by_chance(seed), Reduced(), 1_500)
        if not all_reduced:
            continue
        every, _, all_of_it = ends(by_chance(seed), Bounded(), 600)
        assert every <= reduced, seed
        assert not all_of_it or every == reduced, seed
        reduced_whole += 1
        whole += all_of_it
        several += len(reduced) > 1
    assert reduced_whole * 4 > 3 * count
    assert whole * 6 > count
    assert several * 4 > count


# What a user sees of it


def test_the_shipped_lower_half_is_exhausted_with_no_bound() -> None:
    for strategy in ("reduced", "portfolio"):
        verdict = explore(lower_half(Solo5), Effort(seconds=None, strategy=strategy))
        assert verdict.kind == EXHAUSTED
        assert ONE_OF_EACH in verdict.notes


def test_what_is_looked_at_before_every_step_leaves_nothing_to_reduce() -> None:
    """Two guests that write to words of their own have six orders, and one of each order of steps
    has to be seen where an invariant is about both."""

    def body(machine: ExploredMachine) -> object:
        def count(guest: PlainGuest) -> None:
            frame = guest.platform.new_frame()
            words = frame.view("mine", 0, 16, "Q", guest.cpu.before)
            words[0] = words[1] = 1

        machine.plain("dom0", count)
        machine.plain("guest", count)
        if watched:
            machine.invariant(lambda: True, "nothing")
        return machine.run()

    engine = Programs(Program("it", "it"), body, reducible=True)
    runs = {}
    for watched in (False, True):
        _, runs[watched], exhausted = ends(engine, Reduced())
        assert exhausted
    assert runs[False] == 1
    assert runs[True] == ends(engine, Bounded())[1]


def test_a_program_that_may_share_more_is_refused() -> None:
    engine = pair("it", lambda *_: None, lambda *_: None)
    with pytest.raises(BackendError, match="take the strategy 'preemptions' or 'portfolio'"):
        explore(engine, Effort(strategy="reduced"))


def test_a_step_on_memory_says_which_frame_it_is_in() -> None:
    """Two pages of two runs have the same names and offsets, and other numbers."""
    for count in (1, 2):
        frames: list[int] = []

        def body(
            machine: ExploredMachine, before: int = count, frames: list[int] = frames
        ) -> object:
            def write(guest: PlainGuest) -> None:
                frame = [guest.platform.new_frame() for _ in range(before)][-1]
                frames.append(frame.number)
                frame.view("word", 0, 8, "Q", guest.cpu.before)[0] = 1

            machine.plain("dom0", write)
            machine.plain("guest", lambda guest: None)
            return machine.run()

        tape = ReducedTape(b"", ())
        Programs(Program("it", "it"), body).run(tape)
        written = {thing for passed in tape.passed for thing in passed.footprint.writes}
        assert {thing >> 24 for thing in written if isinstance(thing, int)} == set(frames)
