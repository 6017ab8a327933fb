"""Running programs: one coroutine on one domain's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from traceback import format_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from activations import registry
from activations.signals import unheard, waking

if TYPE_CHECKING:
    from activations.domain import Domain
    from activations.loop import EventLoop
    from activations.lower import Clock

T = TypeVar("T")


def new_event_loop(
    backend: str = "sim", *, clock: Clock | None = None, seed: int | None = None
) -> EventLoop:
    """A loop for one domain of this backend; close it as any asyncio loop.

    The simulator's `clock` is "virtual", if nothing is said, or "wall", which is all that a real
    Xen has. `seed` is the simulator's: the order in which things at one instant happen.
    For `asyncio.Runner(loop_factory=...)`, and anyio's `backend_options={"loop_factory": ...}`.
    Raises `BackendError` where the backend is unknown, cannot work on this machine, or has no use
    for what is said.
    """
    loop: EventLoop = registry.find(backend).new_event_loop(clock=clock, seed=seed)
    return loop


def run(
    main: Callable[[Domain], Awaitable[T]],
    *,
    backend: str = "sim",
    clock: Clock | None = None,
    seed: int | None = None,
    debug: bool | None = None,
) -> T:
    """Run `main(domain)` to its end on a loop of its own, and give what it returned.

    As `asyncio.run` does: Ctrl-C cancels it, leftover tasks are cancelled, the loop is closed.
    `clock` and `seed` are as of `new_event_loop`, `debug` is asyncio's debug mode.
    """
    return run_in(lambda: new_event_loop(backend, clock=clock, seed=seed), main, debug=debug)


def run_in(
    make_loop: Callable[[], EventLoop],
    main: Callable[[Domain], Awaitable[T]],
    *,
    debug: bool | None = None,
) -> T:
    """As `run`, on a loop that `make_loop` makes."""

    def begun(loop: Any) -> Coroutine[Any, Any, T]:
        return program(main, loop.domain)

    return run_on(make_loop, begun, debug=debug)


def run_on(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    work: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, T]],
    *,
    debug: bool | None = None,
) -> T:
    """As `asyncio.run`, of what `work` gives for a loop that `make_loop` makes. Ctrl-C may come at
    any moment of it, and finds no loop half made, and nothing that was begun and is never run.
    Raises `RuntimeError` where a loop runs in this thread already."""
    if asyncio._get_running_loop() is not None:  # said before a loop is made that nobody closes
        raise RuntimeError(
            "an event loop runs in this thread: await what is to run, or run it in another thread"
        )
    runner = asyncio.Runner(loop_factory=make_loop, debug=debug)
    begun: list[Coroutine[Any, Any, T]] = []
    try:
        with unheard() as heard:
            loop = runner.get_loop()
            begun.append(work(loop))
            begun.append(_hearing(heard, *begun))
            with waking(loop):
                return runner.run(begun[-1])
    finally:
        runner.close()
        for each in begun:
            each.close()


async def _hearing(heard: Callable[[], None], work: Coroutine[Any, Any, T]) -> T:
    """Do it, in a task that is there now to be cancelled."""
    heard()
    return await work


async def program(main: Callable[[Domain], Awaitable[T]], domain: Domain) -> T:
    """`main(domain)` as a coroutine, whatever kind of awaitable it is. Raises `TypeError` for an
    ordinary function."""
    # Only the await holds it: where a signal handler's exception strikes here, it ends at once.
    return await _begun(main, domain)


def _begun(main: Callable[[Domain], Awaitable[T]], domain: Domain) -> Awaitable[T]:
    begun = main(domain)
    if not isawaitable(begun):
        name = getattr(main, "__qualname__", repr(main))
        raise TypeError(
            f"{name} returned {begun!r}, and cannot be awaited: a domain's program is a coroutine "
            f"function, `async def {getattr(main, '__name__', 'main')}(xen)`"
        )
    return begun


def told(error: BaseException) -> str:
    """What a program raised, as Python prints it, from the program on."""
    return "".join(format_exception(type(error), error, from_program(error)))


def from_program(error: BaseException) -> TracebackType | None:
    """The traceback of what a program raised, without the way to it: through a backend, asyncio and
    `program`. All of it, where it was raised elsewhere."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is program.__code__:
            return trace.tb_next or trace
        trace = trace.tb_next
    return error.__traceback__
