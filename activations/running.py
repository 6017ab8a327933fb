"""Running programs: one coroutine on one domain's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from activations import backend as backends

if TYPE_CHECKING:
    from activations.domain import Domain
    from activations.loop import EventLoop

T = TypeVar("T")


def new_event_loop(backend: str = "sim", **options: Any) -> EventLoop:
    """A loop for one domain of this backend; close it as any asyncio loop.

    `options` are the backend's own: the simulator takes `clock` ("virtual", "wall") and `seed`.
    For `asyncio.Runner(loop_factory=...)`, and anyio's `backend_options={"loop_factory": ...}`.
    Raises `BackendError` where the backend is unknown or cannot work on this machine.
    """
    return backends.load(backend).new_event_loop(**options)


def run(
    main: Callable[[Domain], Awaitable[T]],
    *,
    backend: str = "sim",
    debug: bool | None = None,
    **options: Any,
) -> T:
    """Run `main(domain)` to its end on a loop of its own, and give what it returned.

    As `asyncio.run` does: Ctrl-C cancels it, leftover tasks are cancelled, the loop is closed.
    `options` are those of `new_event_loop`.
    """
    with asyncio.Runner(
        loop_factory=lambda: new_event_loop(backend, **options), debug=debug
    ) as runner:
        loop: Any = runner.get_loop()
        return runner.run(program(main, loop.domain))


async def program(main: Callable[[Domain], Awaitable[T]], domain: Domain) -> T:
    """`main(domain)` as a coroutine, whatever kind of awaitable it is."""
    return await main(domain)
