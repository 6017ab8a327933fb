"""anyio on our loop: its runner, its pytest plugin, and what it builds on timers and tasks.

The tests that take `anyio_backend` run under anyio's own plugin, on both clocks, as those of an
application would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.abc import TaskStatus

import activations
from activations import EventLoop


def loop_factory(clock: str) -> Callable[[], EventLoop]:
    return lambda: activations.new_event_loop("sim", clock=clock)


@pytest.fixture(params=["virtual", "wall"])
def clock(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def anyio_backend(clock: str) -> tuple[str, dict[str, Any]]:
    """What makes anyio's plugin run a test on our loop."""
    return "asyncio", {"loop_factory": loop_factory(clock)}


@pytest.fixture
async def port() -> AsyncIterator[activations.Port]:
    """An asynchronous fixture shares the test's loop, and its domain."""
    xen = activations.current()
    near = xen.events.alloc_unbound(xen.domid)
    with near, xen.events.bind_interdomain(xen.domid, near.number):
        yield near


def test_anyio_run_takes_our_loop(clock: str) -> None:
    async def main(answer: int) -> int:
        await anyio.sleep(0.001)
        assert activations.current().domid == 0
        return answer

    options = {"loop_factory": loop_factory(clock)}
    assert anyio.run(main, 42, backend_options=options) == 42


@pytest.mark.anyio
async def test_move_on_after_ends_the_wait_for_a_port(port: activations.Port) -> None:
    with anyio.move_on_after(0.01) as scope:
        await port.wait()
    assert scope.cancelled_caught
    assert port.statistics().woken == 0


@pytest.mark.anyio
async def test_fail_after_ends_the_wait_for_a_port(port: activations.Port) -> None:
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await port.wait()


@pytest.mark.anyio
async def test_a_shielded_wait_goes_on(port: activations.Port) -> None:
    """The scope around it is cancelled; the wait inside the shield ends when its event comes."""
    with anyio.CancelScope() as outer:
        outer.cancel()
        with anyio.CancelScope(shield=True):
            activations.current().loop.call_later(0.01, port._fire, 0)
            assert await port.wait() == 1
        await anyio.sleep(1000)
    assert outer.cancelled_caught


@pytest.mark.anyio
async def test_an_event_that_came_during_the_cancellation_is_kept(port: activations.Port) -> None:
    with anyio.move_on_after(0.01):
        await port.wait()
    port._fire(0)
    assert await port.wait() == 1


@pytest.mark.anyio
async def test_a_task_group_ends_together(port: activations.Port) -> None:
    """One task fails; those that wait for ports are cancelled, and nothing is left of them."""

    async def fail() -> None:
        await anyio.sleep(0.01)
        raise ValueError("told to")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(port.wait)
            group.start_soon(fail)
    assert [str(error) for error in caught.value.exceptions] == ["told to"]


@pytest.mark.anyio
async def test_memory_streams_and_started_tasks() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)

    async def produce(*, task_status: TaskStatus[str]) -> None:
        task_status.started("ready")
        async with send:
            for number in range(5):
                await send.send(number)

    async with anyio.create_task_group() as group, receive:
        assert await group.start(produce) == "ready"
        assert [number async for number in receive] == list(range(5))


@pytest.mark.anyio
async def test_deadlines_far_away_and_infinite_ones() -> None:
    """anyio arms timers at infinity."""
    with anyio.fail_after(None), anyio.fail_after(1e9), anyio.move_on_after(float("inf")) as scope:
        await anyio.sleep(0.001)
    assert not scope.cancelled_caught


@pytest.mark.anyio
async def test_a_deadline_between_two_nanoseconds_fires_once(clock: str) -> None:
    """anyio looks at the clock when its timer fires, and arms it again if that was early."""
    deadline = anyio.current_time() + (0.1 + 0.2)
    with anyio.CancelScope(deadline=deadline):
        await anyio.sleep_forever()
    late = anyio.current_time() - deadline
    assert 0 <= late < (1e-9 if clock == "virtual" else 5)


def test_threads_call_in_and_out() -> None:
    """On the wall clock, which has threads."""

    async def main() -> list[int]:
        def work() -> int:
            anyio.from_thread.run(anyio.sleep, 0.001)
            return anyio.from_thread.run_sync(lambda: activations.current().domid)

        return [await anyio.to_thread.run_sync(work) for _ in range(3)]

    assert anyio.run(main, backend_options={"loop_factory": loop_factory("wall")}) == [0, 0, 0]


def test_sockets_and_processes() -> None:
    """On the wall clock, which has descriptors."""

    async def main() -> bytes:
        async def serve(client: anyio.abc.SocketStream) -> None:
            async with client:
                await client.send(await client.receive())

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            number = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", number) as stream:
                await stream.send((await anyio.run_process(["echo", "hello"])).stdout)
                answer = await stream.receive()
            group.cancel_scope.cancel()
            return answer

    assert anyio.run(main, backend_options={"loop_factory": loop_factory("wall")}) == b"hello\n"
