"""Programs that end in an unusual way: somebody cancels every task, or leaves by an exception that
asyncio lets through. What they clean up with, they have until the end.

On both clocks of the simulator, and on the backend `linux` with a simulated xenstored.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
from support.served_store import Factory, served_store

import activations
from activations import Domain, current
from activations.store import StoreClosed


@pytest.fixture(params=["virtual", "wall", "linux"])
def factory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Factory]:
    if request.param == "linux":
        with served_store(tmp_path, monkeypatch) as make:
            yield make
    else:
        yield partial(activations.new_event_loop, "sim", clock=request.param)


def run(factory: Factory, main: Callable[[Domain], Awaitable[Any]]) -> Any:
    """As a program does that knows nothing of domains: a runner, and a loop factory."""

    async def program() -> Any:
        async with asyncio.timeout(20):
            return await main(current())

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(program())


def tasks(*programs: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(each) for each in programs]


async def watching(xen: Domain, ready: asyncio.Event) -> None:
    async with xen.store.watch("/tool") as events:
        async for _ in events:
            ready.set()


def test_sys_exit_in_a_task_ends_the_program_while_another_holds_a_watch(factory: Factory) -> None:
    async def main(xen: Domain) -> None:
        ready = asyncio.Event()

        async def leave() -> None:
            await ready.wait()
            sys.exit(3)

        await asyncio.wait(
            [asyncio.create_task(watching(xen, ready)), asyncio.create_task(leave())]
        )

    with pytest.raises(SystemExit) as caught:
        run(factory, main)
    assert caught.value.code == 3


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_process_ends_with_the_status_that_a_task_gave(clock: str) -> None:
    program = f"""
        import asyncio, sys, activations

        async def main(xen):
            ready = asyncio.Event()
            async def watch():
                async with xen.store.watch("/tool") as events:
                    async for _ in events:
                        ready.set()
            async def leave():
                await ready.wait()
                sys.exit(3)
            await asyncio.wait([asyncio.create_task(watch()), asyncio.create_task(leave())])

        activations.run(main, clock={clock!r})
    """
    ended = subprocess.run([sys.executable, "-c", dedent(program)], timeout=50, check=False)
    assert ended.returncode == 3


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_sys_exit_in_a_task_ends_a_simulated_machine_with_what_the_others_clean_up(
    clock: Any,
) -> None:
    machine = activations.Scenario("leaves", clock=clock)
    cleaned = []

    @machine.domain("dom0")
    async def dom0(xen: Domain) -> None:
        ready = asyncio.Event()

        async def leave() -> None:
            await ready.wait()
            sys.exit(3)

        await asyncio.wait(
            [asyncio.create_task(watching(xen, ready)), asyncio.create_task(leave())]
        )

    @machine.domain("guest")
    async def guest(xen: Domain) -> None:
        try:
            await xen.store.wait_for("data/never")
        finally:
            await xen.store.write("data/cleaned", "1")
            cleaned.append(await xen.store.read("data/cleaned"))

    outcome = machine.outcome("sim")
    assert "SystemExit: 3" in outcome.failures["dom0"]
    assert cleaned == ["1"]


def test_what_a_task_writes_as_all_are_cancelled_is_written(factory: Factory) -> None:
    async def main(xen: Domain) -> str:
        ready = asyncio.Event()

        async def work() -> None:
            try:
                await watching(xen, ready)
            finally:
                await xen.store.write("/tool/last-word", "said")

        working = asyncio.create_task(work())
        await ready.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([working])
        return await xen.store.read("/tool/last-word")

    assert run(factory, main) == "said"


def test_what_a_task_writes_as_the_runner_ends_is_written(factory: Factory) -> None:
    """The main task has ended, and those it has left are cancelled."""
    said: list[str] = []

    async def main(xen: Domain) -> None:
        ready = asyncio.Event()

        async def work() -> None:
            try:
                await watching(xen, ready)
            finally:
                await xen.store.write("/tool/last-word", "said")
                said.append(await xen.store.read("/tool/last-word"))

        main.task = asyncio.create_task(work())  # type: ignore[attr-defined]
        await ready.wait()

    run(factory, main)
    assert said == ["said"]


def test_somebody_elses_runner_hears_of_no_port_that_the_domain_opened_itself(
    factory: Factory,
) -> None:
    """A `LeakWarning` would be an error here."""

    async def main(xen: Domain) -> str:
        await xen.store.write("/tool/x", "1")
        return await xen.store.read("/tool/x")

    async def anyios() -> str:
        return await main(current())

    assert run(factory, main) == "1"
    assert anyio.run(anyios, backend_options={"loop_factory": factory}) == "1"
    loop = factory()
    assert loop.run_until_complete(main(loop.domain)) == "1"
    loop.close()


def test_the_store_is_closed_with_the_loop(factory: Factory) -> None:
    loop = factory()
    store = loop.domain.store
    loop.run_until_complete(store.write("/tool/x", "1"))
    loop.close()
    assert "the domain has ended" in store.closed
    with pytest.raises(StoreClosed):
        asyncio.run(store.read("/tool/x"))


def test_eager_tasks_write_one_after_another(factory: Factory) -> None:
    if sys.version_info < (3, 12):
        eager = None
    else:
        eager = asyncio.eager_task_factory

    async def main(xen: Domain) -> list[str]:
        asyncio.get_running_loop().set_task_factory(eager)
        for number in range(3):
            await asyncio.create_task(xen.store.write(f"/tool/{number}", number))
        return await xen.store.list("/tool")

    assert {"0", "1", "2"} <= set(run(factory, main))
