"""The wall clock for its users: all of asyncio that touches the real world, beside event channels.

CPython's own tests (asyncio_suite) hold the loop to asyncio's rules; these hold what they cannot
know of: several domains in one process, and ports that fire meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.pace import patience

import activations
from activations import Domain, EventLoop, Port
from activations.lower import Clock
from xen_sim import Machine


def run(main: Callable[[Domain], Awaitable[Any]], **options: Any) -> Any:
    return activations.run(main, clock="wall", **options)


def new_loop() -> EventLoop:
    return activations.new_event_loop("sim", clock="wall")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server's side: give back whatever comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port: int, what: bytes) -> bytes:
    """A client's side: one question, all of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def loopback(xen: Domain) -> tuple[Port, Port]:
    """Both ends of an event channel within one domain."""
    near = xen.events.alloc_unbound(xen.domid)
    far = xen.events.bind_interdomain(xen.domid, near.number)
    await far.wait()  # the one event that binding makes
    return near, far


def interrupt_soon(seconds: float = 0.05) -> threading.Timer:
    """Ctrl-C, in a moment. To be called by the program that is to be interrupted: before it runs,
    Ctrl-C would be the test's own."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


# Descriptors


def test_streams_carry_megabytes_both_ways() -> None:
    async def main(xen: Domain) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1")
        async with server:
            number = server.sockets[0].getsockname()[1]
            questions = [os.urandom(1 << 20) for _ in range(4)]
            assert await asyncio.gather(*(ask(number, q) for q in questions)) == questions

    run(main)


def test_bare_sockets() -> None:
    async def main(xen: Domain) -> bytes:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            await loop.sock_sendall(one, b"ping")
            return await loop.sock_recv(other, 100)

    assert run(main) == b"ping"


def test_pipes_and_readers() -> None:
    async def main(xen: Domain) -> list[bytes]:
        loop = asyncio.get_running_loop()
        got: asyncio.Queue[bytes] = asyncio.Queue()
        reading, writing = os.pipe()
        loop.add_reader(reading, lambda: got.put_nowait(os.read(reading, 100)))
        os.write(writing, b"one")
        lines = [await got.get()]
        os.write(writing, b"two")
        lines.append(await got.get())
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        return lines

    assert run(main) == [b"one", b"two"]


def test_subprocesses() -> None:
    """Their pipes, their ends, and being killed."""

    async def main(xen: Domain) -> None:
        pipe = asyncio.subprocess.PIPE
        cat = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        assert await cat.communicate(b"meow") == (b"meow", None)
        assert cat.returncode == 0
        sleeper = await asyncio.create_subprocess_exec("sleep", "1000")
        sleeper.kill()
        assert await sleeper.wait() == -signal.SIGKILL

    run(main)


def test_signals() -> None:
    async def main(xen: Domain) -> None:
        heard = asyncio.Event()
        xen.loop.add_signal_handler(signal.SIGUSR1, heard.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await heard.wait()
        xen.loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


# Threads


def test_work_in_threads() -> None:
    async def main(xen: Domain) -> int:
        return sum(await asyncio.gather(*(asyncio.to_thread(abs, -n) for n in range(10))))

    assert run(main) == 45


def test_a_thread_wakes_a_loop_that_sleeps_for_ever() -> None:
    async def main(xen: Domain) -> str:
        loop = asyncio.get_running_loop()
        word: asyncio.Future[str] = loop.create_future()
        thread = threading.Timer(0.05, loop.call_soon_threadsafe, (word.set_result, "up"))
        thread.start()
        said = await word
        thread.join()
        return said

    assert run(main) == "up"


def test_loops_in_several_threads() -> None:
    """Each thread has a machine of its own."""
    together = threading.Barrier(4)
    ended: list[int] = []

    async def main(xen: Domain) -> None:
        together.wait()
        near, far = await loopback(xen)
        with near, far:
            for _ in range(100):
                far.notify()
                await near.wait()
        ended.append(threading.get_ident())

    threads = [threading.Thread(target=run, args=(main,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ended)) == 4


# What asyncio offers for running


def test_asyncios_runner_takes_our_loop() -> None:
    async def main() -> int:
        assert isinstance(asyncio.get_running_loop(), EventLoop)
        return activations.current().domid

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == 0
        assert runner.run(main()) == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory from 3.12 on")
def test_asyncio_run_takes_our_loop() -> None:
    async def main() -> int:
        return activations.current().domid

    assert asyncio.run(main(), loop_factory=new_loop) == 0


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_run_within_a_run_is_refused_and_leaves_nothing(clock: Clock) -> None:
    async def main(xen: Domain) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a coroutine that was begun, or a loop that was made
            with pytest.raises(RuntimeError, match="an event loop runs in this thread: await "):
                activations.run(main, clock=clock)

    activations.run(main, clock=clock)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with 3.12")
@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_eager_tasks(clock: str) -> None:
    """They wait for ports, and end without a turn of the loop where they need not wait."""

    async def main(xen: Domain) -> list[str]:
        xen.loop.set_task_factory(asyncio.eager_task_factory)
        near, far = await loopback(xen)
        with near, far:
            order: list[str] = []

            async def wait(name: str) -> None:
                await near.wait()
                order.append(name)

            waiting = asyncio.create_task(wait("waiting"))
            far.notify()
            await waiting
            far.notify()
            while near.statistics().fired < 2:
                await asyncio.sleep(0)
            asyncio.create_task(wait("eager"))  # noqa: RUF006
            order.append("at once")
            return order

    assert activations.run(main, clock=clock) == ["waiting", "eager", "at once"]


def test_task_groups_and_timeouts_end_waits_for_ports() -> None:
    async def main(xen: Domain) -> None:
        near, far = await loopback(xen)
        with near, far:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02), asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(near.wait())
            far.notify()
            assert await near.wait()

    run(main)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_debug_mode_minds_the_thread(clock: str) -> None:
    raised: list[BaseException] = []

    async def main(xen: Domain) -> None:
        def elsewhere() -> None:
            try:
                xen.loop.call_later(0, print)
            except RuntimeError as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    activations.run(main, clock=clock, debug=True)
    assert "Non-thread-safe" in str(raised)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_debug_mode_says_where_a_callback_was_scheduled(clock: str) -> None:
    """In the code that did it, not in the loop's; and it refuses what is no callback."""

    async def main(xen: Domain) -> list[asyncio.Handle]:
        loop = xen.loop
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.call_later(0, main, xen)
        return [
            loop.call_soon(print),
            loop.call_soon_threadsafe(print),
            loop.call_later(1000, print),
            loop.call_at(1000, print),
        ]

    for handle in activations.run(main, clock=clock, debug=True):
        assert f"created at {__file__}" in repr(handle)
        handle.cancel()


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_debug_mode_names_the_slow_callback(clock: str, caplog: pytest.LogCaptureFixture) -> None:
    """By real time, whatever the loop's clock is."""

    async def main(xen: Domain) -> None:
        xen.loop.slow_callback_duration = 0.01
        await asyncio.sleep(0)
        time.sleep(0.02)

    activations.run(main, clock=clock, debug=True)
    assert re.search(r"Executing <Task.* took \d", caplog.text)


# Descriptors and ports together


def test_a_storm_of_events_holds_no_socket_up() -> None:
    async def main(xen: Domain) -> None:
        near, far = await loopback(xen)

        async def storm() -> None:
            far.notify()
            async for _ in near:
                far.notify()

        async with await asyncio.start_server(echo, "127.0.0.1") as server:
            stormy = asyncio.create_task(storm())
            number = server.sockets[0].getsockname()[1]
            assert await asyncio.wait_for(ask(number, b"anybody?"), patience(10)) == b"anybody?"
            stormy.cancel()
        near.close()
        far.close()

    run(main)


def test_a_descriptor_that_is_always_ready_holds_no_port_up() -> None:
    async def main(xen: Domain) -> None:
        near, far = await loopback(xen)
        with near, far:
            one, other = socket.socketpair()
            with one, other:
                xen.loop.add_writer(one, lambda: None)
                for _ in range(10):
                    xen.loop.call_later(0.001, far.notify)
                    await asyncio.wait_for(near.wait(), patience(10))
                xen.loop.remove_writer(one)

    run(main)


# Several domains


def test_each_domain_has_sockets_of_its_own() -> None:
    """dom0 serves, and says where in xenstore; guests ask it over TCP."""
    machine = Machine(clock="wall")
    guests = [f"guest{number}" for number in range(4)]

    async def dom0(xen: Domain) -> None:
        served = asyncio.Semaphore(0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            served.release()

        async with await asyncio.start_server(serve, "127.0.0.1") as server:
            await xen.store.mkdir("/service")
            await xen.store.set_perms("/service", "r0")
            await xen.store.write("/service", server.sockets[0].getsockname()[1])
            for _ in guests:
                await served.acquire()

    async def guest(xen: Domain) -> bytes:
        return await ask(int(await xen.store.wait_for("/service", str.isdigit)), xen.name.encode())

    machine.boot("dom0", dom0)
    for name in guests:
        machine.boot(name, guest)
    assert machine.run() == {"dom0": None, **{name: name.encode() for name in guests}}


def test_a_domain_that_keeps_itself_busy_holds_no_other_up() -> None:
    """Neither one that waits for a descriptor, nor one that waits for a time."""
    machine = Machine(clock="wall")
    waiting = {"reader", "sleeper"}

    async def busy(xen: Domain) -> None:
        near, far = await loopback(xen)
        with near, far:
            far.notify()
            async for _ in near:
                if not waiting:
                    break
                far.notify()

    async def reader(xen: Domain) -> None:
        async with await asyncio.start_server(echo, "127.0.0.1") as server:
            await ask(server.sockets[0].getsockname()[1], b"hello")
        waiting.discard(xen.name)

    async def sleeper(xen: Domain) -> None:
        for _ in range(10):
            await asyncio.sleep(0.001)
        waiting.discard(xen.name)

    for main in (busy, reader, sleeper):
        machine.boot(main.__name__, main)
    machine.run()


def test_one_domain_of_several_may_hear_signals() -> None:
    machine = Machine(clock="wall")
    listening: list[str] = []

    async def listener(xen: Domain) -> None:
        heard = asyncio.Event()
        xen.loop.add_signal_handler(signal.SIGUSR1, heard.set)
        listening.append(xen.name)
        await heard.wait()
        xen.loop.remove_signal_handler(signal.SIGUSR1)

    async def sender(xen: Domain) -> None:
        while not listening:
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    machine.boot("listener", listener)
    machine.boot("sender", sender)
    machine.run()


# Ctrl-C


def test_ctrl_c_ends_a_run_in_an_orderly_way() -> None:
    ended = []
    timers = []

    async def main(xen: Domain) -> None:
        timers.append(interrupt_soon())
        try:
            with xen.events.alloc_unbound(0) as port:
                await port.wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(xen.name)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    timers[0].join()
    assert ended == ["dom0"]


@pytest.mark.parametrize("milliseconds", range(20))
@pytest.mark.parametrize("busy", [False, True], ids=["asleep", "busy"])
def test_ctrl_c_ends_every_domain_in_an_orderly_way(busy: bool, milliseconds: int) -> None:
    """Whoever was running, whoever was asleep, and whatever was under way at that moment."""
    machine = Machine(clock="wall")
    begun: list[str] = []
    ended: list[str] = []
    timers: list[threading.Timer] = []

    async def main(xen: Domain) -> None:
        try:
            # asyncio itself leaks a server whose start is cancelled: Ctrl-C comes when all stand
            async with await asyncio.start_server(echo, "127.0.0.1"):
                begun.append(xen.name)
                if len(begun) == 3:
                    timers.append(interrupt_soon(milliseconds / 1000))
                while busy:
                    await asyncio.sleep(0)
                with xen.events.alloc_unbound(0) as port:
                    await port.wait()
        finally:
            await asyncio.sleep(0.001)
            ended.append(xen.name)

    lives = [machine.boot(name, main) for name in ("dom0", "one", "other")]
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    timers[0].join()
    assert sorted(ended) == sorted(begun) == ["dom0", "one", "other"]
    assert all(life.loop.is_closed() for life in lives)


def test_ctrl_c_again_ends_a_program_that_does_not_listen() -> None:
    machine = Machine(clock="wall")

    heard: list[str] = []

    async def deaf(xen: Domain) -> None:
        signal.raise_signal(signal.SIGINT)
        heard.append("the first is noted")
        signal.raise_signal(signal.SIGINT)
        heard.append("the second too")

    machine.boot("deaf", deaf)
    machine.boot("other", lambda xen: asyncio.sleep(1000))
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    assert heard == ["the first is noted"]


def test_a_failure_ends_domains_that_have_not_begun() -> None:
    """None of them is waited for."""
    machine = Machine(clock="wall")

    async def fail(xen: Domain) -> None:
        raise ValueError("at once")

    machine.boot("dom0", fail)
    machine.boot("late", lambda xen: asyncio.sleep(1000))
    with pytest.raises(ValueError, match="at once"):
        machine.run()
